-- Addresses that netbootd leases itself.
CREATE TABLE leases (
    address TEXT PRIMARY KEY,
    -- The interface's name, or the prefix of a network behind a relay.
    network TEXT NOT NULL,
    card TEXT NOT NULL,
    held TEXT NOT NULL,
    -- Milliseconds since the start of the host that is named here. Nobody can set this clock.
    ends INTEGER NOT NULL,
    start TEXT NOT NULL,
    -- Milliseconds since 1970: for the time after another start of the host.
    ends_at INTEGER NOT NULL,
    -- Seconds.
    time INTEGER NOT NULL
) STRICT;
