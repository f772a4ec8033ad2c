-- Controllers, who brought them in, and their tags; the modules themselves are files.

CREATE TABLE controllers (
    digest BYTEA PRIMARY KEY,
    wasm_size BIGINT NOT NULL,
    compiled_size BIGINT NOT NULL,
    abi TEXT NOT NULL,
    created BIGINT NOT NULL
);

CREATE TABLE controller_owners (
    owner TEXT NOT NULL,
    digest BYTEA NOT NULL REFERENCES controllers,
    PRIMARY KEY (owner, digest)
);

CREATE TABLE controller_tags (
    tag TEXT PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    digest BYTEA NOT NULL REFERENCES controllers,
    updated BIGINT NOT NULL,
    updated_by TEXT NOT NULL
);

CREATE INDEX controller_tags_digest ON controller_tags (digest, number);

CREATE INDEX controller_tags_owner ON controller_tags (updated_by);
