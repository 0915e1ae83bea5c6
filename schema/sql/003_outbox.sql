-- The outbox's head, what wakes its readers, how long events stay, and the sinks that they are sent to.

-- Positions are given from here, not from the table: that may be empty when everything in it was old.
CREATE TABLE event_head (
	one boolean PRIMARY KEY DEFAULT true CHECK (one),
	top bigint NOT NULL,			-- the last position given
	oldest bigint NOT NULL			-- the first that is kept: whose cursor lies further back has missed something
) WITH (fillfactor = 20);
INSERT INTO event_head (top, oldest) SELECT coalesce(max(position), 0), coalesce(min(position), 1) FROM event;
ALTER TABLE event_head ENABLE ROW LEVEL SECURITY;
ALTER TABLE event_head FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON event_head TO fleetstate_owner USING (true);
CREATE POLICY ingest ON event_head TO fleetstate_ingest USING (true);
GRANT SELECT ON event_head TO fleetstate_ingest;
-- For readers of the feed: below `oldest` something is gone, above `top` there is nothing yet.
CREATE FUNCTION event_bounds(OUT oldest bigint, OUT top bigint) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp
	AS $$ SELECT oldest, top FROM event_head $$;
REVOKE ALL ON FUNCTION event_bounds FROM PUBLIC;
GRANT EXECUTE ON FUNCTION event_bounds TO fleetstate_api, fleetstate_ingest;

-- Only what has its position is looked up by it.
ALTER TABLE event DROP CONSTRAINT event_position_key;
CREATE UNIQUE INDEX event_position ON event (position) WHERE position IS NOT NULL;
DROP INDEX event_feed;
CREATE INDEX event_feed ON event (tenant_id, position) WHERE position IS NOT NULL;
-- A row is written, numbered soon after and deleted at last: vacuum follows closely.
ALTER TABLE event SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05);

-- Wakes the sequencer when the transaction commits.
CREATE FUNCTION tell_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NOTIFY fleetstate_event;
	RETURN NULL;
END $$;
CREATE TRIGGER event_told AFTER INSERT ON event FOR EACH STATEMENT EXECUTE FUNCTION tell_events();

-- Numbers committed events, 5,000 at a time. One caller at a time, so that positions have no holes and never appear behind a reader.
CREATE OR REPLACE FUNCTION number_events() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	n bigint; last bigint;
BEGIN
	PERFORM pg_advisory_xact_lock(8259, 2);
	SELECT top INTO last FROM event_head;
	WITH fresh AS (SELECT event_id, row_number() OVER (ORDER BY event_id) AS r
		FROM (SELECT event_id FROM event WHERE position IS NULL ORDER BY event_id LIMIT 5000) x)
	UPDATE event e SET position = last + f.r FROM fresh f WHERE e.event_id = f.event_id;
	GET DIAGNOSTICS n = ROW_COUNT;
	IF n > 0 THEN
		UPDATE event_head SET top = last + n;
		PERFORM pg_notify('fleetstate_position', (last + n)::text);
	END IF;
	RETURN n;
END $$;

-- Deletes the first of the events, at most `most`, up to one that is younger than `keep`. Returns how many.
CREATE FUNCTION trim_events(keep interval, most int) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	n bigint; first bigint; ending bigint;
BEGIN
	IF NOT pg_try_advisory_xact_lock(8259, 3) THEN
		RETURN 0;
	END IF;
	SELECT oldest INTO first FROM event_head;
	SELECT coalesce(min(position) FILTER (WHERE time >= now() - keep), max(position) + 1) INTO ending
		FROM (SELECT position, time FROM event WHERE position >= first ORDER BY position LIMIT most) x;
	IF ending IS NULL OR ending <= first THEN
		RETURN 0;
	END IF;
	DELETE FROM event WHERE position >= first AND position < ending;
	GET DIAGNOSTICS n = ROW_COUNT;
	UPDATE event_head SET oldest = ending;
	RETURN n;
END $$;
REVOKE ALL ON FUNCTION trim_events FROM PUBLIC;
GRANT EXECUTE ON FUNCTION trim_events TO fleetstate_ingest;

-- Refusals are told of in the feed too: the first of a device and reason at once, what follows in a window as one number at its end.
ALTER TABLE refusal_count ADD COLUMN told_at timestamptz NOT NULL DEFAULT now();	-- the last event
ALTER TABLE refusal_count ADD COLUMN told bigint NOT NULL DEFAULT 0;			-- how many that one told of
ALTER TABLE refusal_count ADD COLUMN untold bigint NOT NULL DEFAULT 0;			-- and how many have come since
CREATE INDEX refusal_untold ON refusal_count (told_at) WHERE untold > 0;

-- Where events are sent.
CREATE TABLE sink (
	sink_id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	tenant_id int REFERENCES tenant,	-- NULL: an operator's, of all tenants
	name text NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
	kind text NOT NULL,
	target text NOT NULL CHECK (length(target) BETWEEN 1 AND 2048),
	ca text, certificate text,		-- PEM
	secret bytea,				-- sealed under the operator's key
	types text[] NOT NULL DEFAULT '{}',	-- "device.fork", "alert.*"; none: all
	severity text NOT NULL DEFAULT 'info' CHECK (severity IN ('info', 'low', 'medium', 'high', 'critical')),	-- and above
	batch int NOT NULL DEFAULT 100 CHECK (batch BETWEEN 1 AND 1000),	-- events in one message at most
	created_at timestamptz NOT NULL DEFAULT now(),
	UNIQUE NULLS NOT DISTINCT (tenant_id, name)
);
CREATE TABLE sink_cursor (
	sink_id int PRIMARY KEY REFERENCES sink ON DELETE CASCADE,
	tenant_id int,
	position bigint NOT NULL,		-- everything up to it was delivered, is dead, or is not for this sink
	delivered bigint NOT NULL DEFAULT 0,
	retried bigint NOT NULL DEFAULT 0,	-- messages sent again
	dead bigint NOT NULL DEFAULT 0,		-- events that the receiver refused for good
	missed bigint NOT NULL DEFAULT 0,	-- positions that were past their retention before their turn came
	leader text,				-- the collector that has it
	delivered_at timestamptz,
	failed_at timestamptz,			-- NULL: the last message got through
	failure text,
	test_wanted_at timestamptz, tested_at timestamptz, test_answer text
) WITH (fillfactor = 50);
CREATE TABLE sink_dead (
	sink_id int NOT NULL REFERENCES sink ON DELETE CASCADE,
	position bigint NOT NULL,
	tenant_id int,
	event text NOT NULL,			-- as a CloudEvent
	tries int NOT NULL,
	answer text NOT NULL,
	died_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (sink_id, position)
);
DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['sink', 'sink_cursor', 'sink_dead'] LOOP
		EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
		EXECUTE format('CREATE POLICY owner ON %I TO fleetstate_owner USING (true)', t);
		EXECUTE format('CREATE POLICY ingest ON %I TO fleetstate_ingest USING (true)', t);
	END LOOP;
END $$;
GRANT SELECT ON sink TO fleetstate_ingest;
GRANT SELECT, UPDATE ON sink_cursor TO fleetstate_ingest;
GRANT SELECT, INSERT, DELETE ON sink_dead TO fleetstate_ingest;

-- Begins with the next event, or with the oldest kept. `wanted`: the tenant's id; NULL: all of them. NULL when there is no such tenant.
CREATE FUNCTION add_sink(wanted text, name text, kind text, target text, ca text, certificate text, secret bytea, types text[], severity text,
	batch int, backlog boolean) RETURNS int LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	tenant int; made int;
BEGIN
	SELECT t.tenant_id INTO tenant FROM tenant t WHERE t.id = wanted;
	IF NOT FOUND AND wanted IS NOT NULL THEN
		RETURN NULL;
	END IF;
	INSERT INTO sink (tenant_id, name, kind, target, ca, certificate, secret, types, severity, batch) VALUES (tenant, add_sink.name, add_sink.kind,
		add_sink.target, add_sink.ca, add_sink.certificate, add_sink.secret, add_sink.types, add_sink.severity, add_sink.batch)
		RETURNING sink_id INTO made;
	INSERT INTO sink_cursor (sink_id, tenant_id, position) SELECT made, tenant, CASE WHEN backlog THEN oldest - 1 ELSE top END FROM event_head;
	NOTIFY fleetstate_sink;
	RETURN made;
END $$;
REVOKE ALL ON FUNCTION add_sink FROM PUBLIC;

-- As fleet_metrics: what a caller's monitoring draws of its sinks. Operators' own are told to operators only, as of no tenant.
CREATE FUNCTION sink_metrics(token_hash bytea, wanted text) RETURNS TABLE (family text, tenant text, label text, value text, n bigint)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	k record;
BEGIN
	SELECT x.tenant_id INTO k FROM api_token x
		WHERE x.hash = token_hash AND x.revoked_at IS NULL AND (x.expires_at IS NULL OR x.expires_at > now());
	IF NOT FOUND THEN
		RAISE EXCEPTION 'no such token' USING ERRCODE = 'FS401';
	END IF;
	RETURN QUERY
		WITH s AS MATERIALIZED (SELECT s.name, coalesce(t.id, '') AS tenant, c.*, h.top, (SELECT e.time FROM event e WHERE e.position > c.position
				AND (s.tenant_id IS NULL OR e.tenant_id = s.tenant_id) ORDER BY e.position LIMIT 1) AS since
			FROM sink s JOIN sink_cursor c ON c.sink_id = s.sink_id LEFT JOIN tenant t ON t.tenant_id = s.tenant_id, event_head h
			WHERE (k.tenant_id IS NULL OR s.tenant_id = k.tenant_id) AND (wanted IS NULL OR t.id = wanted))
		SELECT f.family, s.tenant, 'sink', s.name, f.n::bigint FROM s, LATERAL (VALUES
			('sink_lag_events', CASE WHEN s.since IS NULL THEN 0 ELSE s.top - s.position END),
			('sink_lag_seconds', greatest(0, ceil(coalesce(extract(epoch FROM now() - s.since), 0)))),
			('sink_failing', (s.failed_at IS NOT NULL)::int),
			('sink_delivered', s.delivered), ('sink_retried', s.retried), ('sink_dead', s.dead), ('sink_missed', s.missed)) AS f (family, n);
END $$;
REVOKE ALL ON FUNCTION sink_metrics FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sink_metrics TO fleetstate_api;
