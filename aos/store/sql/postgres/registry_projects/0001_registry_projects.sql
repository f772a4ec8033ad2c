-- AI projects and the audit log. Times are microseconds since 1970-01-01 UTC; `due` is when time next changes something about a project.

CREATE TABLE registry_projects (
    name text COLLATE "C" PRIMARY KEY,
    owner text NOT NULL,
    lease_id text NOT NULL,
    created bigint NOT NULL,
    version bigint NOT NULL,
    ended bigint,
    due bigint NOT NULL
);

CREATE INDEX registry_projects_due ON registry_projects (due);

CREATE TABLE registry_replicas (
    id text COLLATE "C" PRIMARY KEY,
    project text COLLATE "C" NOT NULL REFERENCES registry_projects ON DELETE CASCADE,
    position bigint NOT NULL,
    model text COLLATE "C" NOT NULL,
    api text NOT NULL,
    kind bigint NOT NULL,
    cid text NOT NULL,
    address text NOT NULL,
    asked text COLLATE "C" NOT NULL,
    operator text COLLATE "C" NOT NULL,
    created bigint NOT NULL,
    expires bigint NOT NULL,
    state text NOT NULL,
    reason text NOT NULL,
    capabilities text NOT NULL,
    next_probe bigint,
    checked bigint,
    running bigint NOT NULL,
    reported integer NOT NULL,
    ended bigint
);

CREATE INDEX registry_replicas_project ON registry_replicas (project, position);

CREATE INDEX registry_replicas_operator ON registry_replicas (operator, project);

CREATE INDEX registry_replicas_model ON registry_replicas (model, project);

CREATE TABLE registry_signers (signer text COLLATE "C" PRIMARY KEY, issued_at bigint NOT NULL, used text NOT NULL);

CREATE TABLE registry_audit (
    sequence bigint PRIMARY KEY,
    time bigint NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    detail text NOT NULL
);

-- A log that could be rewritten would prove nothing.
CREATE FUNCTION registry_audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END
$body$;

CREATE TRIGGER registry_audit_kept BEFORE UPDATE OR DELETE ON registry_audit
FOR EACH ROW EXECUTE FUNCTION registry_audit_refuse();

CREATE TRIGGER registry_audit_not_emptied BEFORE TRUNCATE ON registry_audit
FOR EACH STATEMENT EXECUTE FUNCTION registry_audit_refuse();

-- Numbers every entry behind the last one. Whoever writes has the log's end to itself until it commits, so that whoever reads up to a
-- number has read all that there will ever be up to it.
CREATE FUNCTION registry_audit_next() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('registry audit', 0));
    SELECT COALESCE(MAX(sequence), 0) + 1 INTO NEW.sequence FROM registry_audit;
    RETURN NEW;
END
$body$;

CREATE TRIGGER registry_audit_numbered BEFORE INSERT ON registry_audit
FOR EACH ROW EXECUTE FUNCTION registry_audit_next();
