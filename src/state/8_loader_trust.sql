-- The kind of loader that started on a machine, where it is not the signed one, or no longer: signed or unsigned.
CREATE TABLE loader_trust (
    id TEXT PRIMARY KEY,
    trust TEXT NOT NULL,
    learned_at INTEGER NOT NULL DEFAULT (unixepoch())
) STRICT;
