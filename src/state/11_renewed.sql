-- How often a person gave a machine its one-time profile again, after it had begun: addresses for reports that were signed
-- before the last time decide nothing.
ALTER TABLE machines ADD COLUMN renewed INTEGER NOT NULL DEFAULT 0;
