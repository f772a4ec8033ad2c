-- The dispatchers of the database, their operators, and the checks that each has taken upon itself.

CREATE TABLE nodes (node TEXT COLLATE "C" PRIMARY KEY, holder TEXT NOT NULL, beats BIGINT NOT NULL);

-- the row stays when the stream has ended, with no node: versions never come again
CREATE TABLE attachments (
    operator TEXT PRIMARY KEY,
    node TEXT NOT NULL,
    version BIGINT NOT NULL,
    token_hash TEXT NOT NULL,
    offers BYTEA NOT NULL,
    tee BIGINT NOT NULL,
    vrf_since BIGINT,
    broken TEXT NOT NULL
);
CREATE INDEX attachments_node ON attachments (node);

-- no reference: a check is given back, or its dispatcher goes, whether or not the job is there
CREATE TABLE check_claims (
    job TEXT NOT NULL, "position" TEXT NOT NULL, tag BIGINT NOT NULL, node TEXT NOT NULL, PRIMARY KEY (job, position, tag)
);
