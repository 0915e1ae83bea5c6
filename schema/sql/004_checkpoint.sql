-- Checkpoints: about daily, how far every device's reports had come, under one signed root that goes out with the change feed. Whoever cuts off the end
-- of the evidence, and the ledger's head with it, can't take back what others hold.
SET search_path = fleetstate, pg_catalog;

CREATE TABLE checkpoint (
	number bigint PRIMARY KEY CHECK (number > 0),	-- without gaps
	made_at timestamptz NOT NULL,
	devices bigint NOT NULL,
	root bytea NOT NULL CHECK (length(root) = 32),
	sha256 bytea NOT NULL CHECK (length(sha256) = 32),	-- of the message
	message bytea NOT NULL
);
-- What the root is over, in the order of `place`; kept for the last 31.
CREATE TABLE checkpoint_leaf (
	number bigint NOT NULL,
	place bigint NOT NULL,
	device_id bigint NOT NULL,
	tenant_id int NOT NULL,
	ueid bytea NOT NULL,
	epoch bigint NOT NULL,
	seq bigint NOT NULL,
	head bytea NOT NULL,
	received_at timestamptz NOT NULL,	-- of that report or a later one
	PRIMARY KEY (number, place)
);

DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['checkpoint', 'checkpoint_leaf'] LOOP
		EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
		EXECUTE format('CREATE POLICY owner ON %I TO fleetstate_owner USING (true)', t);
		EXECUTE format('CREATE POLICY ingest ON %I TO fleetstate_ingest USING (true)', t);
	END LOOP;
END $$;
GRANT SELECT, INSERT ON checkpoint TO fleetstate_ingest;
GRANT SELECT, INSERT, DELETE ON checkpoint_leaf TO fleetstate_ingest;
