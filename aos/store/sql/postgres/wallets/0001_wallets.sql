-- Wallets that sign for an account, and the nonces that they used; `expiry` is in seconds since 1970-01-01 UTC.

CREATE TABLE broker_wallets (
    account text COLLATE "C" NOT NULL,
    wallet text COLLATE "C" NOT NULL,
    PRIMARY KEY (account, wallet)
);

CREATE TABLE broker_nonces (
    wallet text COLLATE "C" NOT NULL,
    nonce bigint NOT NULL,
    expiry bigint NOT NULL,
    PRIMARY KEY (wallet, nonce)
);

CREATE INDEX broker_nonces_expiry ON broker_nonces (expiry);

-- Signed requests, for as long as a dispute may need one. `job` is empty until there is one.
CREATE TABLE broker_requests (
    wallet text COLLATE "C" NOT NULL,
    nonce bigint NOT NULL,
    job text COLLATE "C" NOT NULL,
    expiry bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (wallet, nonce)
);

CREATE INDEX broker_requests_job ON broker_requests (job);

CREATE INDEX broker_requests_expiry ON broker_requests (expiry);
