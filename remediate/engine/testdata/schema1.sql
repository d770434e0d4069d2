-- The tables of the engine, for SQLite and for PostgreSQL (where BLOB reads BYTEA).
-- Times are milliseconds of Unix time, 0 is none. What ends in JSON is text.

CREATE TABLE IF NOT EXISTS unbrick (version INTEGER NOT NULL);

CREATE TABLE IF NOT EXISTS runs (
	id TEXT PRIMARY KEY,
	playbook TEXT NOT NULL,
	source BLOB NOT NULL,
	playbook_digest TEXT NOT NULL,
	fleet_digest TEXT NOT NULL,
	options TEXT NOT NULL,
	state TEXT NOT NULL,            -- loading, running, ended
	paused TEXT NOT NULL DEFAULT '', -- by whom
	halted TEXT NOT NULL DEFAULT '', -- why
	resumed BIGINT NOT NULL DEFAULT 0, -- the stop rule looks at what ended after
	started BIGINT NOT NULL,
	ended BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE IF NOT EXISTS hosts (
	run TEXT NOT NULL,
	host TEXT NOT NULL,
	site TEXT NOT NULL,
	grp TEXT NOT NULL,
	due BIGINT NOT NULL,
	ord BIGINT NOT NULL,
	data TEXT NOT NULL,              -- JSON of the inventory.Host
	state TEXT NOT NULL DEFAULT 'todo', -- todo, running, done
	attempt INTEGER NOT NULL DEFAULT 0,
	lost INTEGER NOT NULL DEFAULT 0, -- attempts that the engine lost
	failed INTEGER NOT NULL DEFAULT 0, -- attempts that failed and are followed by another
	executor TEXT NOT NULL DEFAULT '',
	cancel TEXT NOT NULL DEFAULT '', -- by whom
	touched INTEGER NOT NULL DEFAULT 0, -- 1: something was done to it
	entered TEXT NOT NULL DEFAULT '', -- JSON: what has to be put back
	repaired TEXT NOT NULL DEFAULT '', -- JSON: by which way, and the report
	debt TEXT NOT NULL DEFAULT '',   -- entered as this attempt found it
	proof TEXT NOT NULL DEFAULT '',  -- repaired as this attempt found it
	route TEXT NOT NULL DEFAULT '',
	stage TEXT NOT NULL DEFAULT '',
	verdict TEXT NOT NULL DEFAULT '',
	reason TEXT NOT NULL DEFAULT '',
	evidence TEXT NOT NULL DEFAULT '',
	report TEXT NOT NULL DEFAULT '', -- JSON of the remediate.Report
	started BIGINT NOT NULL DEFAULT 0,
	ended BIGINT NOT NULL DEFAULT 0,
	PRIMARY KEY (run, host)
);

CREATE INDEX IF NOT EXISTS hosts_todo ON hosts (run, ord, host) WHERE state = 'todo';
CREATE INDEX IF NOT EXISTS hosts_running ON hosts (run, executor) WHERE state = 'running';
CREATE INDEX IF NOT EXISTS hosts_ended ON hosts (run, ended) WHERE ended > 0;

-- How many hosts of a site stand where: counted as they move, so that status is cheap.
CREATE TABLE IF NOT EXISTS sites (
	run TEXT NOT NULL,
	site TEXT NOT NULL,
	paused TEXT NOT NULL DEFAULT '', -- by whom
	todo BIGINT NOT NULL DEFAULT 0,
	running BIGINT NOT NULL DEFAULT 0,
	fixed BIGINT NOT NULL DEFAULT 0,
	healthy BIGINT NOT NULL DEFAULT 0,
	waiting BIGINT NOT NULL DEFAULT 0,
	unconfirmed BIGINT NOT NULL DEFAULT 0,
	skipped BIGINT NOT NULL DEFAULT 0,
	failed BIGINT NOT NULL DEFAULT 0,
	stranded BIGINT NOT NULL DEFAULT 0,
	on_time BIGINT NOT NULL DEFAULT 0,
	late BIGINT NOT NULL DEFAULT 0,
	PRIMARY KEY (run, site)
);

-- Who works on the state. A worker that does not renew its lease has lost its hosts.
CREATE TABLE IF NOT EXISTS workers (
	executor TEXT PRIMARY KEY,
	token TEXT NOT NULL,             -- of the process
	pid BIGINT NOT NULL,
	machine TEXT NOT NULL,
	since BIGINT NOT NULL,
	lease BIGINT NOT NULL            -- until when
);

CREATE TABLE IF NOT EXISTS audit (
	run TEXT NOT NULL,
	host TEXT NOT NULL,
	attempt INTEGER NOT NULL,
	step INTEGER NOT NULL,           -- of the attempt, from 1
	route TEXT NOT NULL,
	stage TEXT NOT NULL,
	outcome TEXT NOT NULL,
	reason TEXT NOT NULL,
	started BIGINT NOT NULL,
	ended BIGINT NOT NULL,
	PRIMARY KEY (run, host, attempt, step)
);

CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, value BLOB NOT NULL)
