-- Random bytes that are made once: what the addresses of answer files are signed with (boot::answer).
CREATE TABLE secrets (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;
