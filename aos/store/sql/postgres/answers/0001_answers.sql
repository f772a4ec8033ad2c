-- Signatures over answers, by their keys; `expiry` is in seconds since 1970-01-01 UTC.

CREATE TABLE broker_answers (
    key text COLLATE "C" PRIMARY KEY,
    expiry bigint NOT NULL,
    answer bytea NOT NULL
);

CREATE INDEX broker_answers_expiry ON broker_answers (expiry);
