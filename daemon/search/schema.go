package search

// version counts the forms that the tables and words have had. An index of another
// version is made again.
const version = 1

// tables are what the documented tables are made of. Times are Unix milliseconds; n is a
// number that stands for the row.
const tables = `
CREATE TABLE a (n INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, address TEXT NOT NULL, looks TEXT, id TEXT,
	capabilities TEXT, description TEXT, platform TEXT, accepts TEXT, unregistered INTEGER);
CREATE TABLE c (n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, topic TEXT NOT NULL DEFAULT '', mode TEXT NOT NULL DEFAULT '',
	open INTEGER NOT NULL DEFAULT 0, turn_limit INTEGER NOT NULL DEFAULT 0, turns INTEGER NOT NULL DEFAULT 0,
	origin TEXT NOT NULL DEFAULT '', creator INTEGER, created INTEGER NOT NULL DEFAULT 0, request TEXT NOT NULL DEFAULT '',
	closed INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '', last_seq INTEGER NOT NULL DEFAULT 0,
	last_time INTEGER NOT NULL DEFAULT 0, size INTEGER NOT NULL DEFAULT 0, looks TEXT NOT NULL DEFAULT '',
	line INTEGER NOT NULL DEFAULT 0, hash INTEGER NOT NULL DEFAULT 0, damage TEXT NOT NULL DEFAULT '');
CREATE INDEX c_open ON c (open) WHERE open;
CREATE TABLE p (conversation INTEGER NOT NULL, agent INTEGER NOT NULL, joined INTEGER NOT NULL, gone INTEGER NOT NULL,
	PRIMARY KEY (conversation, agent, joined)) WITHOUT ROWID;
CREATE INDEX p_agent ON p (agent, conversation);
CREATE TABLE m (n INTEGER PRIMARY KEY, conversation INTEGER NOT NULL, seq INTEGER NOT NULL, type TEXT NOT NULL, event TEXT,
	agent INTEGER NOT NULL, time INTEGER NOT NULL, id BLOB NOT NULL, content TEXT NOT NULL, reason TEXT, recipients TEXT,
	reply_to TEXT, after INTEGER, auto INTEGER, hops INTEGER, request TEXT, data TEXT, files INTEGER NOT NULL);
CREATE UNIQUE INDEX m_seq ON m (conversation, seq);
CREATE TABLE f (message INTEGER NOT NULL, place INTEGER NOT NULL, name TEXT NOT NULL, media_type TEXT NOT NULL,
	size INTEGER NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (message, place)) WITHOUT ROWID;
CREATE TABLE t (hour INTEGER NOT NULL, sender INTEGER NOT NULL, recipient INTEGER NOT NULL, count INTEGER NOT NULL,
	last INTEGER NOT NULL, PRIMARY KEY (hour, sender, recipient)) WITHOUT ROWID;
CREATE TABLE r (id TEXT NOT NULL, place INTEGER NOT NULL, looks TEXT NOT NULL, sender TEXT NOT NULL, callee TEXT NOT NULL,
	state TEXT NOT NULL, reason TEXT NOT NULL, changed INTEGER NOT NULL, topic TEXT NOT NULL, content TEXT NOT NULL,
	created INTEGER NOT NULL, rings INTEGER NOT NULL, conversation TEXT NOT NULL, over INTEGER NOT NULL,
	PRIMARY KEY (id, place)) WITHOUT ROWID;

CREATE VIEW agents AS SELECT address, substr(address, 1, instr(address, '@') - 1) AS name, substr(address, instr(address, '@') + 1) AS host,
	id, capabilities, description, platform, accepts, unregistered FROM a;
CREATE VIEW conversations AS SELECT c.id, 'c' || substr(c.id, -8) AS ref, topic, mode, open, turn_limit, turns, origin,
	a.address AS creator, created AS created_at, nullif(request, '') AS request,
	CASE WHEN damage <> '' THEN 'damaged' WHEN closed THEN 'closed' ELSE 'active' END AS status,
	CASE WHEN damage <> '' THEN damage ELSE nullif(reason, '') END AS reason, last_seq, last_time AS last_at
	FROM c LEFT JOIN a ON a.n = c.creator;
CREATE VIEW participants AS SELECT c.id AS conversation, a.address AS agent, joined AS joined_seq, nullif(gone, 0) AS left_seq
	FROM p JOIN c ON c.n = p.conversation JOIN a ON a.n = p.agent;
CREATE VIEW messages AS SELECT c.id AS conversation, seq, 'c' || substr(c.id, -8) || '.' || seq AS ref,
	lower(substr(hex(m.id), 1, 8) || '-' || substr(hex(m.id), 9, 4) || '-' || substr(hex(m.id), 13, 4) || '-' || substr(hex(m.id), 17, 4) || '-' || substr(hex(m.id), 21)) AS id,
	type, event, a.address AS sender, time AS sent_at, content, m.reason, recipients, reply_to, after, auto, hops, m.request, data,
	files AS attachments FROM m JOIN c ON c.n = m.conversation JOIN a ON a.n = m.agent;
CREATE VIEW attachments AS SELECT c.id AS conversation, m.seq, name, media_type, f.size, sha256
	FROM f JOIN m ON m.n = f.message JOIN c ON c.n = m.conversation;
CREATE VIEW requests AS SELECT id, 'r' || substr(id, -8) AS ref, sender, callee, state, nullif(reason, '') AS callee_reason, changed AS changed_at,
	topic, content, created AS created_at, nullif(rings, 0) AS ring_until, nullif(conversation, '') AS conversation, over FROM r;
`

// wordTable is what is searched. It keeps no text: that is in m. The words are split before
// (see splitter), so that the tokenizer of SQLite only cuts at blanks. The column tags says
// who wrote a line (a and the number), in which conversation (c and the number), of what
// type it is (k and the type), whether it has attachments (x), and is in an open
// conversation (o).
const wordTable = `CREATE VIRTUAL TABLE words USING fts5 (body, names, topic, tags, content='', columnsize=0, tokenize='ascii');
INSERT INTO words (words, rank) VALUES ('hashsize', 4194304);`
