-- Projects and the hashes of their tokens. Times are microseconds since 1970-01-01 UTC; limits are NULL where the settings hold.

CREATE TABLE projects (
    id TEXT COLLATE "C" PRIMARY KEY,
    token_hash TEXT NOT NULL UNIQUE,
    created BIGINT NOT NULL,
    display_name TEXT NOT NULL DEFAULT '',
    requests_per_minute BIGINT,
    tokens_per_day BIGINT,
    unfinished_jobs BIGINT,
    kept_jobs BIGINT,
    weight BIGINT
);
