-- What was said of machines while the server ran: boot::roster.
CREATE TABLE roster (
    mac TEXT PRIMARY KEY,
    profile TEXT,
    once INTEGER NOT NULL DEFAULT 0,
    spent TEXT
) STRICT;
