-- What is still to be claimed and answered on a chain, and what answers disputes. Times are seconds since 1970, in the chain's clock.

-- Settled batches, until what answers their disputes is forgotten.
CREATE TABLE chain_claims (
    batch bigint PRIMARY KEY REFERENCES chain_batches,
    look_at bigint NOT NULL,
    attempts bigint NOT NULL,
    done bigint NOT NULL
);

CREATE INDEX chain_claims_due ON chain_claims (done, look_at);

CREATE TABLE chain_answers (
    identity text COLLATE "C" NOT NULL,
    line bigint NOT NULL,
    leaf bigint NOT NULL,
    look_at bigint NOT NULL,
    attempts bigint NOT NULL,
    given_up bigint NOT NULL,
    PRIMARY KEY (identity, line, leaf)
);

CREATE INDEX chain_disputes_fate ON chain_disputes (fate, sequence);

CREATE TABLE broker_bodies (
    receipt text COLLATE "C" PRIMARY KEY,
    job text COLLATE "C" NOT NULL,
    body bytea NOT NULL
);

CREATE INDEX broker_bodies_job ON broker_bodies (job);
