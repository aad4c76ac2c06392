-- What was learned of a machine's firmware, in one row: the shape of offer that it takes, and the kind of loader that started,
-- where they are not the usual ones, or no longer. The number is that of the change, by which other appliances hear of it.
-- A row without either was forgotten, and stays for a while, so that the others hear of that too.
CREATE TABLE firmware (
    id TEXT PRIMARY KEY,
    shape TEXT,
    trust TEXT,
    learned_at INTEGER NOT NULL,
    revision INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO firmware (id, shape, learned_at) SELECT id, shape, learned_at FROM offer_shapes;
INSERT INTO firmware (id, trust, learned_at) SELECT id, trust, learned_at FROM loader_trust WHERE true
    ON CONFLICT (id) DO UPDATE SET trust = excluded.trust;
DROP TABLE offer_shapes;
DROP TABLE loader_trust;
CREATE INDEX firmware_by_revision ON firmware (revision);
