-- Jobs, their logs, their checks, and what is counted of them. Times are microseconds since 1970-01-01 UTC; amounts outgrow 64 bits:
-- text. States from 4 are final; money is 1 pending, 2 held, 3 settled.

-- what moves (jobs), what never does (job_requests), and what comes once (job_outcomes) are apart, because a whole row is written anew
-- and a prompt may have 1 MiB
CREATE TABLE jobs (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id TEXT COLLATE "C" NOT NULL UNIQUE,
    project TEXT COLLATE "C" NOT NULL,
    request_id TEXT COLLATE "C",
    model TEXT NOT NULL,
    model_digest TEXT NOT NULL,
    request_digest BYTEA NOT NULL,
    parameters TEXT NOT NULL,
    seed BIGINT NOT NULL,
    prompt_bound BIGINT NOT NULL,
    completion_bound BIGINT NOT NULL,
    amount TEXT NOT NULL,
    created BIGINT NOT NULL,
    deadline BIGINT NOT NULL,
    money BIGINT NOT NULL,
    state BIGINT NOT NULL,
    operator TEXT NOT NULL,
    lease TEXT NOT NULL,
    price BYTEA,
    attempts BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    clock TEXT NOT NULL,
    ended BIGINT,
    priority BIGINT NOT NULL,
    traceparent TEXT NOT NULL,
    job_type TEXT NOT NULL,
    waits BIGINT NOT NULL,
    controlled BIGINT NOT NULL,
    provider TEXT NOT NULL,
    node TEXT NOT NULL
);

CREATE UNIQUE INDEX jobs_request ON jobs (project, request_id);

CREATE INDEX jobs_project ON jobs (project, number);

CREATE INDEX jobs_deadline ON jobs (deadline) WHERE state < 4;

CREATE INDEX jobs_state ON jobs (state, number) WHERE state < 4;

CREATE INDEX jobs_pending ON jobs (number) WHERE money = 1;

CREATE INDEX jobs_unsettled ON jobs (number) WHERE money = 2 AND state >= 4;

-- the rows of running jobs are written often: these are touched at a job's end only
CREATE INDEX jobs_by_state ON jobs (project, state, number) WHERE state >= 4;

CREATE INDEX jobs_settled ON jobs (ended) WHERE money = 3;

CREATE INDEX jobs_kept ON jobs (project, number) WHERE money = 3;

-- for lists
CREATE INDEX jobs_model ON jobs (project, model, number);

CREATE INDEX jobs_created ON jobs (created);

CREATE INDEX jobs_ended ON jobs (state, number) WHERE state >= 4;

CREATE TABLE job_requests (
    number BIGINT PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    ordered BYTEA NOT NULL,
    "user" TEXT NOT NULL,
    annotation TEXT NOT NULL,
    contents BYTEA NOT NULL
);

CREATE INDEX job_requests_user ON job_requests ("user");

CREATE TABLE job_outcomes (number BIGINT PRIMARY KEY REFERENCES jobs ON DELETE CASCADE, outcome BYTEA NOT NULL);

CREATE TABLE job_traces (number BIGINT PRIMARY KEY REFERENCES jobs ON DELETE CASCADE, trace BYTEA NOT NULL);

CREATE TABLE job_attestations (number BIGINT PRIMARY KEY REFERENCES jobs ON DELETE CASCADE, attestation BYTEA NOT NULL);

-- state for a move, chunk for output, neither for the outcome, which has a table
CREATE TABLE job_events (
    number BIGINT NOT NULL REFERENCES jobs ON DELETE CASCADE,
    sequence BIGINT NOT NULL,
    state BIGINT,
    chunk BYTEA,
    PRIMARY KEY (number, sequence)
);

-- names that no table of jobs has, because the two are joined
CREATE TABLE job_risk (
    number BIGINT PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    owner TEXT NOT NULL,
    enduser TEXT NOT NULL,
    own_tag BIGINT NOT NULL,
    redundancy BIGINT NOT NULL,
    exact BIGINT NOT NULL,
    risk_tag BIGINT NOT NULL DEFAULT 0,
    risk_position TEXT NOT NULL DEFAULT '',
    risk_width BIGINT NOT NULL DEFAULT 0,
    reviewed BIGINT NOT NULL DEFAULT 0,
    verdict BIGINT NOT NULL DEFAULT 0,
    verdict_reason TEXT NOT NULL DEFAULT ''
);

CREATE INDEX job_risk_user ON job_risk (owner, enduser, number);

-- is ready once the job is completed, and gone once it is concluded; one that waits is of a job to be run again
CREATE TABLE job_checks (
    number BIGINT NOT NULL REFERENCES jobs ON DELETE CASCADE,
    position TEXT NOT NULL,
    tag BIGINT NOT NULL,
    width BIGINT NOT NULL,
    ready BIGINT NOT NULL,
    PRIMARY KEY (number, position, tag)
);

CREATE INDEX job_checks_ready ON job_checks (number) WHERE ready = 1;

CREATE TABLE job_results (
    number BIGINT NOT NULL REFERENCES jobs ON DELETE CASCADE,
    place BIGINT NOT NULL,
    result BYTEA NOT NULL,
    PRIMARY KEY (number, place)
);

-- no reference: what is on record against an operator outlives the job
CREATE TABLE evidence (
    entry BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    job TEXT NOT NULL,
    evidence BYTEA NOT NULL
);

CREATE INDEX evidence_job ON evidence (job, entry);

CREATE TABLE user_standings (
    owner TEXT NOT NULL,
    enduser TEXT NOT NULL,
    tag BIGINT NOT NULL,
    remaining BIGINT NOT NULL,
    clean BIGINT NOT NULL,
    PRIMARY KEY (owner, enduser)
);

-- of the dispatchers' own events, 256 of them at a time
CREATE SEQUENCE node_counts INCREMENT BY 256 MINVALUE 0 START WITH 0;

-- a slot is a connection's: transactions that run side by side write rows of their own, which together are what is kept
CREATE TABLE node_clocks (
    node TEXT NOT NULL,
    slot BIGINT NOT NULL DEFAULT pg_backend_pid() % 64,
    clock TEXT NOT NULL,
    PRIMARY KEY (node, slot)
);

CREATE TABLE project_usage (
    project TEXT COLLATE "C" NOT NULL,
    day BIGINT NOT NULL,
    slot BIGINT NOT NULL DEFAULT pg_backend_pid() % 64,
    tokens BIGINT NOT NULL,
    PRIMARY KEY (project, day, slot)
);

-- kept by the database as jobs come and end: counting them for each that comes takes longer the more there are. The rows of no project
-- are those of all; one slot alone may be below 0
CREATE TABLE project_load (
    project TEXT COLLATE "C" NOT NULL,
    slot BIGINT NOT NULL DEFAULT pg_backend_pid() % 64,
    jobs BIGINT NOT NULL,
    tokens BIGINT NOT NULL,
    PRIMARY KEY (project, slot)
) WITH (fillfactor = 50);

-- ended jobs that are there, counted as they come and go; one slot alone may be below 0
CREATE TABLE project_kept (
    project TEXT COLLATE "C" NOT NULL,
    slot BIGINT NOT NULL DEFAULT pg_backend_pid() % 64,
    jobs BIGINT NOT NULL,
    PRIMARY KEY (project, slot)
) WITH (fillfactor = 50);

CREATE FUNCTION job_load(job jobs, more BIGINT) RETURNS VOID LANGUAGE sql AS $$
    INSERT INTO project_load (project, jobs, tokens)
        VALUES (job.project, more, more * (job.prompt_bound + job.completion_bound)),
            ('', more, more * (job.prompt_bound + job.completion_bound))
        ON CONFLICT (project, slot) DO UPDATE SET jobs = project_load.jobs + excluded.jobs, tokens = project_load.tokens + excluded.tokens
$$;

CREATE FUNCTION jobs_come() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
    PERFORM job_load(NEW, 1);
    RETURN NULL;
END $$;

CREATE FUNCTION jobs_leave() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
    PERFORM job_load(OLD, -1);
    RETURN NULL;
END $$;

CREATE TRIGGER jobs_come AFTER INSERT ON jobs FOR EACH ROW WHEN (NEW.state < 4) EXECUTE FUNCTION jobs_come();

CREATE TRIGGER jobs_end AFTER UPDATE OF state ON jobs FOR EACH ROW WHEN (OLD.state < 4 AND NEW.state >= 4) EXECUTE FUNCTION jobs_leave();

CREATE TRIGGER jobs_go AFTER DELETE ON jobs FOR EACH ROW WHEN (OLD.state < 4) EXECUTE FUNCTION jobs_leave();
