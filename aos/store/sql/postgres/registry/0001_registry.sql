-- Operators and what they offer. Times are microseconds since 1970-01-01 UTC; prices outgrow 64 bits, so they are decimal digits.

CREATE TABLE registry_operators (
    operator text COLLATE "C" PRIMARY KEY,
    registered bigint NOT NULL,
    expires bigint NOT NULL,
    departed bigint,
    ends bigint NOT NULL,
    issued_at bigint NOT NULL,
    used text NOT NULL,
    vrf_key bytea NOT NULL DEFAULT '',
    vrf_key_since bigint,
    attested bytea NOT NULL DEFAULT '',
    noted integer NOT NULL DEFAULT 0
);

CREATE INDEX registry_operators_ends ON registry_operators (ends);

CREATE INDEX registry_operators_lapses ON registry_operators (expires) WHERE departed IS NULL AND noted = 0;

CREATE TABLE registry_offers (
    operator text COLLATE "C" NOT NULL REFERENCES registry_operators ON DELETE CASCADE,
    position bigint NOT NULL,
    model text COLLATE "C" NOT NULL,
    digest text NOT NULL,
    context_length bigint NOT NULL,
    chat integer NOT NULL,
    prompt_price text NOT NULL,
    completion_price text NOT NULL,
    slots bigint NOT NULL,
    since bigint NOT NULL,
    exact integer NOT NULL DEFAULT 0,
    embeddings integer NOT NULL DEFAULT 0,
    images integer NOT NULL DEFAULT 0,
    image_edits integer NOT NULL DEFAULT 0,
    replicas text NOT NULL DEFAULT '',
    controllers integer NOT NULL DEFAULT 0,
    PRIMARY KEY (operator, position)
);

CREATE INDEX registry_offers_model ON registry_offers (model, operator);

-- Counts what was told to those who watch.
CREATE TABLE registry_news (one integer PRIMARY KEY CHECK (one = 1), version bigint NOT NULL);

INSERT INTO registry_news VALUES (1, 0);

-- Of all registries of the database; `made` is in seconds since 1970-01-01 UTC.
CREATE TABLE registry_secrets (made bigint NOT NULL, value bytea NOT NULL, PRIMARY KEY (made, value));
