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
	ladder TEXT NOT NULL DEFAULT '', -- JSON: what hosts.way goes by
	outcomes BIGINT NOT NULL DEFAULT 0, -- how far cohorts, and outcomes.seq, have come
	planner TEXT NOT NULL DEFAULT '', -- executor that puts the hosts in order
	pins BIGINT NOT NULL DEFAULT 0, -- how often sites were pinned, or no longer
	windows BIGINT NOT NULL DEFAULT 0, -- how often the order was written down
	started BIGINT NOT NULL,
	ended BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE IF NOT EXISTS hosts (
	run TEXT NOT NULL,
	host TEXT NOT NULL,
	site TEXT NOT NULL,
	grp TEXT NOT NULL,
	model TEXT NOT NULL DEFAULT '',
	first INTEGER NOT NULL DEFAULT 0, -- 1: the others of its site are held until it has ended
	held INTEGER NOT NULL DEFAULT 0, -- 1: it is one of those, and its site is gated
	serves INTEGER NOT NULL DEFAULT 0, -- class of the service that all sites need, as schedule.ServiceOf, 0 is none
	due BIGINT NOT NULL,
	ord BIGINT NOT NULL,
	data TEXT NOT NULL,              -- JSON of the inventory.Host
	state TEXT NOT NULL DEFAULT 'todo', -- todo, running, waiting (for a person), done
	attempt INTEGER NOT NULL DEFAULT 0,
	lost INTEGER NOT NULL DEFAULT 0, -- attempts that the engine lost
	climb TEXT NOT NULL DEFAULT '',  -- JSON of the remediate.Climb: an attempt does not change it
	way TEXT NOT NULL DEFAULT '',    -- by which it is taken next, empty if something is to be put back or gone on with
	subnet TEXT NOT NULL DEFAULT '', -- of the controller which that way speaks to
	tech TEXT NOT NULL DEFAULT '',   -- who goes to the host
	parked TEXT NOT NULL DEFAULT '', -- JSON: where it goes on after waiting: an attempt does not change it
	notes TEXT NOT NULL DEFAULT '',  -- JSON: what was said of it meanwhile
	since BIGINT NOT NULL DEFAULT 0, -- when it began to wait
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

CREATE INDEX IF NOT EXISTS hosts_next ON hosts (run, way, model, ord, host) WHERE state = 'todo' AND held = 0;
CREATE INDEX IF NOT EXISTS hosts_first ON hosts (run, site) WHERE first = 1 AND state <> 'done';
CREATE INDEX IF NOT EXISTS hosts_serves ON hosts (run, serves) WHERE serves > 0 AND state <> 'done';
CREATE INDEX IF NOT EXISTS hosts_held ON hosts (run, site) WHERE held = 1;
CREATE INDEX IF NOT EXISTS hosts_hands ON hosts (run, site) WHERE state = 'todo' AND way = 'manual';
CREATE INDEX IF NOT EXISTS hosts_waiting ON hosts (run, since) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS hosts_running ON hosts (run, executor) WHERE state = 'running';
CREATE INDEX IF NOT EXISTS hosts_ended ON hosts (run, ended) WHERE ended > 0;

-- How many hosts of a site stand where: counted as they move, so that status is cheap.
CREATE TABLE IF NOT EXISTS sites (
	run TEXT NOT NULL,
	site TEXT NOT NULL,
	paused TEXT NOT NULL DEFAULT '', -- by whom
	gated INTEGER NOT NULL DEFAULT 0, -- 1: its dependency tier has not ended
	pinned BIGINT NOT NULL DEFAULT 0, -- before all others until then
	pinned_by TEXT NOT NULL DEFAULT '',
	anyway INTEGER NOT NULL DEFAULT 0, -- 1: while it is pinned, before its dependency tier has ended too
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
	country TEXT,                    -- as its hosts have it, NULL: nobody has looked
	zone TEXT,                       -- the same
	clock TEXT NOT NULL DEFAULT '',  -- IANA zone that its technicians work by
	off BIGINT NOT NULL DEFAULT 0,   -- they do not work until then
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
	verdict TEXT NOT NULL DEFAULT '', -- in force from here on
	reason TEXT NOT NULL,
	started BIGINT NOT NULL,
	ended BIGINT NOT NULL,
	PRIMARY KEY (run, host, attempt, step)
);

-- How treatments ended: written with the end of each, and counted in their order by whoever
-- takes hosts next.
CREATE TABLE IF NOT EXISTS outcomes (
	run TEXT NOT NULL,
	host TEXT NOT NULL,
	attempt INTEGER NOT NULL,
	result TEXT NOT NULL,            -- of package halt
	way TEXT NOT NULL,
	model TEXT NOT NULL,
	site TEXT NOT NULL,
	error TEXT NOT NULL,
	took BIGINT NOT NULL,            -- ms, without what it waited for a person
	at BIGINT NOT NULL,
	seq BIGINT NOT NULL DEFAULT 0,   -- as the how many-th it was counted, 0 is not yet
	PRIMARY KEY (run, host, attempt, result)
);

CREATE INDEX IF NOT EXISTS outcomes_new ON outcomes (run, at, host) WHERE seq = 0;
CREATE INDEX IF NOT EXISTS outcomes_seq ON outcomes (run, seq);

-- What is treated alike and halted together.
CREATE TABLE IF NOT EXISTS cohorts (
	run TEXT NOT NULL,
	scope TEXT NOT NULL,
	data TEXT NOT NULL,              -- JSON of the halt.Record
	halted INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (run, scope)
);

-- When the next host may be begun by a way whose starts are counted.
CREATE TABLE IF NOT EXISTS rates (
	run TEXT NOT NULL,
	way TEXT NOT NULL,
	next BIGINT NOT NULL,
	PRIMARY KEY (run, way)
);

-- Hosts that a process treats beside the runs. One that does not renew its lease has lost them.
CREATE TABLE IF NOT EXISTS claims (
	name TEXT PRIMARY KEY,           -- of the host, in small letters
	host TEXT NOT NULL,
	grp TEXT NOT NULL,
	token TEXT NOT NULL,             -- of the process
	pid BIGINT NOT NULL,
	machine TEXT NOT NULL,
	since BIGINT NOT NULL,
	lease BIGINT NOT NULL            -- until when
);

CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, value BLOB NOT NULL)
