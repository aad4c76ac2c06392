-- Several appliances with one state. Each change of a machine has a number, by which the others hear of it.
CREATE TABLE revision (one INTEGER PRIMARY KEY, number INTEGER NOT NULL) STRICT;
INSERT INTO revision (one, number) VALUES (1, 0);
ALTER TABLE machines ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
-- 1: nothing is said of it any more. The row stays for a while, so that the others hear of that too.
ALTER TABLE machines ADD COLUMN gone INTEGER NOT NULL DEFAULT 0;
-- A one-time profile whose script the machine has, and the appliance that gave it.
ALTER TABLE machines ADD COLUMN begun TEXT;
ALTER TABLE machines ADD COLUMN begun_by TEXT;
-- Its last hand-over to something that it is to have once, and when, in seconds by the clock of the state.
ALTER TABLE machines ADD COLUMN handed_over TEXT;
ALTER TABLE machines ADD COLUMN handed_over_at INTEGER NOT NULL DEFAULT 0;
CREATE INDEX machines_by_revision ON machines (revision);
-- Who saw a boot; none: the one that keeps it.
ALTER TABLE boots ADD COLUMN appliance TEXT NOT NULL DEFAULT '';
CREATE INDEX boots_by_last ON boots (last);
-- The appliances, and when they were last heard, in seconds by the clock of the state.
CREATE TABLE appliances (
    name TEXT PRIMARY KEY,
    addresses TEXT NOT NULL,
    seen REAL NOT NULL
) STRICT;
-- What happened while the state that is shared could not be reached; in an appliance's own file only.
CREATE TABLE waiting (number INTEGER PRIMARY KEY, note TEXT NOT NULL) STRICT;
