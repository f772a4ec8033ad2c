-- An operator's questions. Times are microseconds since 1970-01-01 UTC. The rowid is what SQLite has by itself: the order in which
-- they came.

CREATE TABLE questions (
    rowid BIGINT GENERATED ALWAYS AS IDENTITY,
    id TEXT PRIMARY KEY,
    model TEXT NOT NULL,
    prompt TEXT NOT NULL,
    url TEXT NOT NULL,
    created BIGINT NOT NULL,
    state TEXT NOT NULL,
    starts BIGINT NOT NULL,
    bundle BYTEA,
    reason TEXT NOT NULL,
    problem TEXT NOT NULL,
    ended BIGINT,
    callback_state TEXT NOT NULL,
    callback_attempts BIGINT NOT NULL,
    callback_problem TEXT NOT NULL,
    callback_due BIGINT
);

CREATE INDEX questions_open ON questions (created) WHERE (state = 'pending' OR callback_state = 'due');

CREATE INDEX questions_ended ON questions (ended) WHERE NOT (state = 'pending' OR callback_state = 'due');
