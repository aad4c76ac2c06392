-- What is kept of a machine is kept under its strongest name (boot::identity: name:…, uuid:… or mac:…), and no more under
-- its card alone. What was kept of a card stays, and is joined with its machine when that is seen.
CREATE TABLE machines (
    id TEXT PRIMARY KEY,
    profile TEXT,
    once INTEGER NOT NULL DEFAULT 0,
    spent TEXT,
    approved INTEGER NOT NULL DEFAULT 0,
    -- Hand-overs of this profile without a report that it is installed, and the words of the last report that it failed.
    tried TEXT,
    tries INTEGER NOT NULL DEFAULT 0,
    failed TEXT,
    -- All names that the machine was known by, one a line.
    known_as TEXT NOT NULL
) STRICT;
INSERT INTO machines (id, profile, once, spent, approved, known_as)
    SELECT 'mac:' || mac, profile, once, spent, approved, 'mac:' || mac FROM roster;
DROP TABLE roster;
ALTER TABLE offer_shapes RENAME COLUMN mac TO id;
UPDATE offer_shapes SET id = 'mac:' || id;
ALTER TABLE boots RENAME COLUMN mac TO id;
UPDATE boots SET id = 'mac:' || id;
-- The names of a machine whose boots are kept, one a line, as in machines.
ALTER TABLE boots ADD COLUMN known_as TEXT NOT NULL DEFAULT '';
