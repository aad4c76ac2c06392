-- The shape of offer that a machine's firmware was seen to take, where it is not the usual one, or no longer.
CREATE TABLE offer_shapes (
    mac TEXT PRIMARY KEY,
    shape TEXT NOT NULL,
    learned_at INTEGER NOT NULL DEFAULT (unixepoch())
) STRICT;
