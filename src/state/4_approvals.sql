-- Machines that are answered though no rule names them (dhcp.answer = "known").
ALTER TABLE roster ADD COLUMN approved INTEGER NOT NULL DEFAULT 0;
