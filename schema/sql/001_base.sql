-- Tenancy, devices and their keys, the ledger, evidence, state, inventory, the outbox; and who may see which row.
--
-- epoch is the report's 8 bytes read as a big-endian signed integer. Digests are SHA-256. Rows carry the tenant of when they were written.

CREATE SCHEMA IF NOT EXISTS fleetstate;
SET search_path = fleetstate, pg_catalog;
DO $$
BEGIN
	EXECUTE format('ALTER DATABASE %I SET search_path = fleetstate', current_database());
	EXECUTE format('ALTER DATABASE %I SET timezone = ''UTC''', current_database());
	-- A temporary table would stand before ours in an owner's function; those name pg_temp last as well.
	EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
END $$;
GRANT USAGE ON SCHEMA fleetstate TO fleetstate_ingest, fleetstate_api;

CREATE TABLE tenant (
	tenant_id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	id text NOT NULL UNIQUE CHECK (id ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
	name text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
	created_at timestamptz NOT NULL DEFAULT now()
);

-- What a maker's CA may vouch for: devices of this tenant, admitted at once or held for approval.
CREATE TABLE trust_anchor (
	trust_anchor_id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	tenant_id int NOT NULL REFERENCES tenant,
	name text NOT NULL,
	certificate bytea NOT NULL UNIQUE,	-- DER
	enrol text NOT NULL DEFAULT 'admit' CHECK (enrol IN ('admit', 'hold')),
	created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE device (
	device_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	tenant_id int NOT NULL REFERENCES tenant,
	ueid bytea NOT NULL UNIQUE CHECK (length(ueid) = 17),
	lifecycle text NOT NULL CHECK (lifecycle IN ('pending', 'active', 'retired', 'revoked', 'transferred')),
	posture text NOT NULL DEFAULT 'unknown' CHECK (posture IN ('untrusted', 'silent', 'degraded', 'unknown', 'operational')),
	reasons text[] NOT NULL DEFAULT '{no-state}',
	posture_since timestamptz NOT NULL DEFAULT now(),
	first_seen timestamptz,
	serial text, vendor text, hwmodel text, hwversion text, oemid text, swname text, swversion text, kernel text,
	support_until date, end_of_life date,
	reprovision_until timestamptz,		-- the operator's word: an epoch that begins by then is the device's own
	created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX device_page ON device (tenant_id, device_id);
CREATE INDEX device_posture ON device (tenant_id, posture, device_id);
CREATE INDEX device_model ON device (tenant_id, hwmodel, device_id);
CREATE INDEX device_firmware ON device (tenant_id, swversion, device_id);

CREATE TABLE device_key (
	device_id bigint NOT NULL REFERENCES device,
	kid bytea NOT NULL CHECK (length(kid) = 8),
	tenant_id int NOT NULL,
	spki bytea NOT NULL,
	chain bytea[] NOT NULL,		-- DER, leaf first, as it came
	not_before timestamptz NOT NULL,
	not_after timestamptz NOT NULL,
	status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'retired', 'revoked')),
	enrolled_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (device_id, kid)
);

-- The ledger's head, and all that a quiet report changes. Moved by compare-and-set on rev. No index on a changing column: updates stay HOT.
CREATE TABLE device_hot (
	device_id bigint PRIMARY KEY REFERENCES device,
	tenant_id int NOT NULL,
	rev bigint NOT NULL DEFAULT 0,
	epoch bigint NOT NULL DEFAULT 0,
	hi bigint NOT NULL DEFAULT 0,		-- highest seq of the epoch; 0: nothing yet
	head bytea,				-- SHA-256 of message hi
	sections_head bytea,			-- SHA-256 of the last message with sections
	facts bytea,				-- facts digest of message hi
	last_seen timestamptz,			-- received
	last_iat timestamptz,			-- the device's clock then
	interval_s int NOT NULL DEFAULT 0,
	gaps boolean NOT NULL DEFAULT false	-- whether report_gap has rows for it
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- An epoch of a device, and what went wrong in it. `hi` is final when the epoch is left; the current one's is in device_hot.
CREATE TABLE device_epoch (
	device_id bigint NOT NULL REFERENCES device,
	epoch bigint NOT NULL,
	tenant_id int NOT NULL,
	hi bigint NOT NULL DEFAULT 0,
	first_seen timestamptz NOT NULL,
	certified timestamptz,			-- when the certificate that its reports came under begins
	vouched boolean NOT NULL DEFAULT true,	-- by a first enrolment, a newer certificate or an operator
	duplicates bigint NOT NULL DEFAULT 0,
	late bigint NOT NULL DEFAULT 0,
	forks bigint NOT NULL DEFAULT 0,
	chain_breaks bigint NOT NULL DEFAULT 0,
	PRIMARY KEY (device_id, epoch)
);
-- Sequence numbers below hi that have not come. Empty for a healthy device.
CREATE TABLE report_gap (
	device_id bigint NOT NULL REFERENCES device,
	epoch bigint NOT NULL,
	missing int8range NOT NULL,
	tenant_id int NOT NULL,
	since timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (device_id, epoch, missing)
);
-- Sequence numbers that the device declared, signed, never to come.
CREATE TABLE report_drop (
	device_id bigint NOT NULL REFERENCES device,
	epoch bigint NOT NULL,
	dropped int8range NOT NULL,
	tenant_id int NOT NULL,
	cause text NOT NULL CHECK (cause IN ('skipped', 'overwritten')),
	declared_by bigint NOT NULL,		-- seq of the declaring report
	PRIMARY KEY (device_id, epoch, dropped)
);

-- Evidence: the signed bytes. Partitions by the collector's time of reception, made ahead; no default partition.
-- Quiet reports and those with sections are kept for different times. A fork's second report stands here too, flagged.
CREATE TABLE report_quiet (
	device_id bigint NOT NULL,
	epoch bigint NOT NULL,
	seq bigint NOT NULL,
	received_at timestamptz NOT NULL,
	tenant_id int NOT NULL,
	issued_at timestamptz NOT NULL,
	sha256 bytea NOT NULL,
	flags int NOT NULL DEFAULT 0,		-- 1 late 2 fork 4 clock-suspect 8 certificate in its grace 16 chain break 32 pending 64 second epoch
	sections int NOT NULL DEFAULT 0,	-- 1 state 2 inventory 4 events
	message bytea NOT NULL,
	PRIMARY KEY (device_id, epoch, seq, received_at)
) PARTITION BY RANGE (received_at);
CREATE TABLE report_full (LIKE report_quiet INCLUDING DEFAULTS, PRIMARY KEY (device_id, epoch, seq, received_at)) PARTITION BY RANGE (received_at);
CREATE INDEX report_quiet_sha256 ON report_quiet USING hash (sha256);
CREATE INDEX report_full_sha256 ON report_full USING hash (sha256);
CREATE VIEW report WITH (security_invoker = true) AS SELECT * FROM report_quiet UNION ALL SELECT * FROM report_full;

CREATE TABLE inventory (
	inventory_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	tenant_id int NOT NULL REFERENCES tenant,
	digest bytea NOT NULL,
	components int NOT NULL,
	first_seen timestamptz NOT NULL DEFAULT now(),
	UNIQUE (tenant_id, digest)
);
CREATE TABLE component (
	component_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	tenant_id int NOT NULL REFERENCES tenant,
	digest bytea NOT NULL,			-- of its CBOR encoding
	type text NOT NULL,
	name text NOT NULL,
	version text NOT NULL,
	architecture text, source text, source_version text, purl text,
	UNIQUE (tenant_id, digest)
);
CREATE INDEX component_name ON component (tenant_id, name, version);
CREATE TABLE inventory_component (
	inventory_id bigint NOT NULL REFERENCES inventory,
	component_id bigint NOT NULL REFERENCES component,
	tenant_id int NOT NULL,
	PRIMARY KEY (inventory_id, component_id)
);
CREATE INDEX inventory_component_back ON inventory_component (component_id, inventory_id);

-- The latest facts; moves only forward in (epoch, seq).
CREATE TABLE device_state (
	device_id bigint PRIMARY KEY REFERENCES device,
	tenant_id int NOT NULL,
	epoch bigint NOT NULL,
	seq bigint NOT NULL,
	received_at timestamptz NOT NULL,
	issued_at timestamptz NOT NULL,
	state_digest bytea NOT NULL,
	inventory_digest bytea NOT NULL,	-- its set may still be on the way
	state jsonb NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX device_state_inventory ON device_state (tenant_id, inventory_digest, device_id);
-- Every state that differed from the one before; a range ends where the next begins.
CREATE TABLE state_history (
	device_id bigint NOT NULL REFERENCES device,
	valid_from timestamptz NOT NULL,	-- received
	epoch bigint NOT NULL,
	seq bigint NOT NULL,
	tenant_id int NOT NULL,
	issued_at timestamptz NOT NULL,
	state_digest bytea NOT NULL,
	inventory_digest bytea NOT NULL,
	state jsonb NOT NULL,
	PRIMARY KEY (device_id, valid_from, epoch, seq)
);

-- Refused messages: counted by device where the topic names one we know; samples of all, bounded by watch.
CREATE TABLE refusal_count (
	device_id bigint NOT NULL REFERENCES device,
	reason text NOT NULL,
	tenant_id int NOT NULL,
	n bigint NOT NULL,
	PRIMARY KEY (device_id, reason)
);
CREATE TABLE refusal (
	refusal_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	received_at timestamptz NOT NULL,
	tenant_id int,				-- NULL: the fleet's
	device_id bigint,
	ueid bytea,				-- of the topic
	reason text NOT NULL,
	size int NOT NULL,
	sha256 bytea NOT NULL,
	sample bytea NOT NULL			-- the message's first 4 KiB
);
CREATE INDEX refusal_device ON refusal (device_id, received_at);
CREATE INDEX refusal_time ON refusal (received_at);
CREATE INDEX refusal_tenant ON refusal (tenant_id, refusal_id);

-- The outbox. Written without a position in the transaction of the change; the sequencer numbers committed rows gaplessly.
CREATE TABLE event (
	event_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	position bigint UNIQUE,
	time timestamptz NOT NULL DEFAULT now(),
	tenant_id int NOT NULL REFERENCES tenant,
	type text NOT NULL,
	ueid bytea,
	data jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX event_unnumbered ON event (event_id) WHERE position IS NULL;
CREATE INDEX event_feed ON event (tenant_id, position);

CREATE TABLE api_token (
	token_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	tenant_id int REFERENCES tenant,	-- NULL: an operator's
	role text NOT NULL CHECK (role IN ('viewer', 'analyst', 'admin', 'operator')),
	name text NOT NULL,
	hash bytea NOT NULL UNIQUE,		-- SHA-256 of the token
	created_at timestamptz NOT NULL DEFAULT now(),
	expires_at timestamptz,
	revoked_at timestamptz,
	CHECK ((tenant_id IS NULL) = (role = 'operator'))
);

-- Collectors that are alive, to share the shards out.
CREATE TABLE collector (
	name text PRIMARY KEY,
	seen_at timestamptz NOT NULL
);

-- Row-level security, forced: the owner's own policy is as explicit as the others.
CREATE FUNCTION tenant_context() RETURNS int LANGUAGE sql STABLE PARALLEL SAFE
	AS $$ SELECT nullif(current_setting('fleetstate.tenant', true), '')::int $$;

DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['tenant', 'trust_anchor', 'device', 'device_key', 'device_hot', 'device_epoch', 'report_gap', 'report_drop',
		'report_quiet', 'report_full', 'inventory', 'component', 'inventory_component', 'device_state', 'state_history', 'refusal_count',
		'refusal', 'event', 'api_token', 'collector']
	LOOP
		EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
		EXECUTE format('CREATE POLICY owner ON %I TO fleetstate_owner USING (true)', t);
	END LOOP;
	FOREACH t IN ARRAY ARRAY['tenant', 'trust_anchor', 'device', 'device_key', 'device_hot', 'device_epoch', 'report_gap', 'report_drop',
		'report_quiet', 'report_full', 'inventory', 'component', 'inventory_component', 'device_state', 'state_history', 'refusal_count',
		'refusal', 'event', 'collector']
	LOOP
		EXECUTE format('CREATE POLICY ingest ON %I TO fleetstate_ingest USING (true)', t);
	END LOOP;
	FOREACH t IN ARRAY ARRAY['tenant', 'device', 'device_key', 'device_hot', 'device_epoch', 'report_gap', 'report_drop', 'report_quiet',
		'report_full', 'inventory', 'component', 'inventory_component', 'device_state', 'state_history', 'refusal_count', 'refusal', 'event']
	LOOP
		EXECUTE format('CREATE POLICY tenant ON %I FOR SELECT TO fleetstate_api USING (tenant_id = (SELECT tenant_context()))', t);
		EXECUTE format('GRANT SELECT ON %I TO fleetstate_api', t);
	END LOOP;
END $$;
GRANT SELECT ON report TO fleetstate_api, fleetstate_ingest;

GRANT SELECT ON tenant, trust_anchor TO fleetstate_ingest;
GRANT SELECT, INSERT, UPDATE ON device, device_key, device_hot, device_epoch, device_state, refusal_count, event TO fleetstate_ingest;
GRANT SELECT, INSERT ON report_quiet, report_full, inventory, component, inventory_component, state_history TO fleetstate_ingest;
GRANT SELECT, INSERT, DELETE ON report_gap, report_drop, refusal TO fleetstate_ingest;
GRANT SELECT, INSERT, UPDATE, DELETE ON collector TO fleetstate_ingest;

-- Signs a request in: sets the tenant for this transaction. Fails with FS401 for a token that is unknown, expired or revoked, FS400 when an
-- operator names no tenant, FS404 for a tenant that the caller may not see or that does not exist.
CREATE FUNCTION sign_in(token_hash bytea, wanted text, OUT tenant_id int, OUT tenant text, OUT role text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	SELECT k.role, t.tenant_id, t.id INTO sign_in.role, sign_in.tenant_id, sign_in.tenant FROM api_token k LEFT JOIN tenant t
		ON t.tenant_id = coalesce(k.tenant_id, (SELECT w.tenant_id FROM tenant w WHERE w.id = wanted)) AND (wanted IS NULL OR t.id = wanted)
		WHERE k.hash = token_hash AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now());
	IF NOT FOUND THEN
		RAISE EXCEPTION 'no such token' USING ERRCODE = 'FS401';
	END IF;
	IF sign_in.tenant_id IS NULL AND wanted IS NULL THEN
		RAISE EXCEPTION 'an operator names the tenant' USING ERRCODE = 'FS400';
	END IF;
	IF sign_in.tenant_id IS NULL THEN
		RAISE EXCEPTION 'no such tenant' USING ERRCODE = 'FS404';
	END IF;
	PERFORM set_config('fleetstate.tenant', sign_in.tenant_id::text, true);
END $$;
REVOKE ALL ON FUNCTION sign_in FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sign_in TO fleetstate_api;

-- What a caller's monitoring draws of the fleet: the token's own tenant, or all of them for an operator's unless it names one.
CREATE FUNCTION fleet_metrics(token_hash bytea, wanted text) RETURNS TABLE (family text, tenant text, label text, value text, n bigint)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	mine int; ids int[];
BEGIN
	SELECT k.tenant_id INTO mine FROM api_token k
		WHERE k.hash = token_hash AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now());
	IF NOT FOUND THEN
		RAISE EXCEPTION 'no such token' USING ERRCODE = 'FS401';
	END IF;
	SELECT array_agg(t.tenant_id) INTO ids FROM tenant t WHERE t.tenant_id = coalesce(mine, t.tenant_id) AND t.id = coalesce(wanted, t.id);
	IF ids IS NULL AND wanted IS NOT NULL THEN
		RAISE EXCEPTION 'no such tenant' USING ERRCODE = 'FS404';
	END IF;
	RETURN QUERY
		WITH t AS MATERIALIZED (SELECT x.tenant_id, x.id FROM tenant x WHERE x.tenant_id = ANY (ids)),
		c AS MATERIALIZED (SELECT f.tenant_id, f.lifecycle, f.posture, sum(f.n) AS n FROM fleet_count f WHERE f.tenant_id = ANY (ids) GROUP BY 1, 2, 3),
		g AS MATERIALIZED (SELECT m.tenant_id, sum(upper(m.missing) - lower(m.missing)) AS n FROM report_gap m WHERE m.tenant_id = ANY (ids) GROUP BY 1)
		SELECT 'devices', t.id, 'posture', p, coalesce((SELECT sum(c.n) FROM c
				WHERE c.tenant_id = t.tenant_id AND c.lifecycle = 'active' AND c.posture = p), 0)::bigint
			FROM t, unnest('{untrusted,silent,degraded,unknown,operational}'::text[]) p
		UNION ALL SELECT 'devices_by_lifecycle', t.id, 'lifecycle', l, coalesce((SELECT sum(c.n) FROM c
				WHERE c.tenant_id = t.tenant_id AND c.lifecycle = l), 0)::bigint
			FROM t, unnest('{pending,active,retired,revoked,transferred}'::text[]) l
		UNION ALL SELECT 'reports_missing', t.id, NULL, NULL, least(coalesce(g.n, 0), 9007199254740991)::bigint FROM t LEFT JOIN g ON g.tenant_id = t.tenant_id;
END $$;
REVOKE ALL ON FUNCTION fleet_metrics FROM PUBLIC;
GRANT EXECUTE ON FUNCTION fleet_metrics TO fleetstate_api;

-- Partitions of one day, from yesterday to `days` ahead (yesterday: a collector whose clock is a little behind).
CREATE FUNCTION make_partitions(days int) RETURNS int LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	t text; d date; made int := 0; name text;
BEGIN
	PERFORM pg_advisory_xact_lock(8259, 1);
	FOREACH t IN ARRAY ARRAY['report_quiet', 'report_full'] LOOP
		FOR i IN -1 .. days LOOP
			d := (now() AT TIME ZONE 'UTC')::date + i;
			name := format('%s_%s', t, to_char(d, 'YYYYMMDD'));
			IF to_regclass('fleetstate.' || name) IS NULL THEN
				EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', name, t,
					d::timestamp AT TIME ZONE 'UTC', (d + 1)::timestamp AT TIME ZONE 'UTC');
				EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
				EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
				made := made + 1;
			END IF;
		END LOOP;
	END LOOP;
	RETURN made;
END $$;
REVOKE ALL ON FUNCTION make_partitions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION make_partitions TO fleetstate_ingest;
SELECT make_partitions(3);

-- Numbers committed events. One at a time, so that positions have no holes and never appear behind a reader.
CREATE FUNCTION number_events() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	n bigint; top bigint;
BEGIN
	PERFORM pg_advisory_xact_lock(8259, 2);
	SELECT coalesce(max(position), 0) INTO top FROM event;
	WITH fresh AS (SELECT event_id, row_number() OVER (ORDER BY event_id) AS r FROM event WHERE position IS NULL)
	UPDATE event e SET position = top + r FROM fresh f WHERE e.event_id = f.event_id;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END $$;
REVOKE ALL ON FUNCTION number_events FROM PUBLIC;
GRANT EXECUTE ON FUNCTION number_events TO fleetstate_ingest;

CREATE FUNCTION rfc3339(timestamptz) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
	AS $$ SELECT to_char($1 AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') $$;
-- The 16 hex digits of an epoch.
CREATE FUNCTION epoch_hex(bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT encode(int8send($1), 'hex') $$;

-- What the HTTP interface reads.

-- Signs the cursors of lists: made with the database, so that they outlive a collector and hold at its neighbours. 244 random bits.
CREATE TABLE cursor_secret (
	one boolean PRIMARY KEY DEFAULT true CHECK (one),
	secret bytea NOT NULL
);
INSERT INTO cursor_secret (secret) VALUES (sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));
ALTER TABLE cursor_secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE cursor_secret FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON cursor_secret TO fleetstate_owner USING (true);
CREATE FUNCTION read_cursor_secret() RETURNS bytea LANGUAGE sql STABLE SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp
	AS $$ SELECT secret FROM cursor_secret $$;
REVOKE ALL ON FUNCTION read_cursor_secret FROM PUBLIC;
GRANT EXECUTE ON FUNCTION read_cursor_secret TO fleetstate_api;

-- How many devices of each kind. Written as differences, so that collectors never wait for each other's counts, and folded now and then.
CREATE TABLE fleet_count (
	tenant_id int NOT NULL,
	lifecycle text NOT NULL,
	posture text NOT NULL,
	hwmodel text,
	swversion text,
	n bigint NOT NULL
);
CREATE INDEX fleet_count_tenant ON fleet_count (tenant_id);
ALTER TABLE fleet_count ENABLE ROW LEVEL SECURITY;
ALTER TABLE fleet_count FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON fleet_count TO fleetstate_owner USING (true);
CREATE POLICY tenant ON fleet_count FOR SELECT TO fleetstate_api USING (tenant_id = (SELECT tenant_context()));
GRANT SELECT ON fleet_count TO fleetstate_api;

CREATE FUNCTION fold_fleet_count() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	WITH gone AS (
		DELETE FROM fleet_count WHERE ctid = ANY (ARRAY(SELECT ctid FROM fleet_count FOR UPDATE SKIP LOCKED)) RETURNING *
	)
	INSERT INTO fleet_count SELECT tenant_id, lifecycle, posture, hwmodel, swversion, sum(n) FROM gone GROUP BY 1, 2, 3, 4, 5 HAVING sum(n) <> 0
$$;
REVOKE ALL ON FUNCTION fold_fleet_count FROM PUBLIC;
CREATE FUNCTION count_devices() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP = 'INSERT' THEN
		INSERT INTO fleet_count SELECT tenant_id, lifecycle, posture, hwmodel, swversion, count(*) FROM fresh GROUP BY 1, 2, 3, 4, 5;
	ELSIF TG_OP = 'DELETE' THEN
		INSERT INTO fleet_count SELECT tenant_id, lifecycle, posture, hwmodel, swversion, -count(*) FROM stale GROUP BY 1, 2, 3, 4, 5;
	ELSE
		INSERT INTO fleet_count SELECT tenant_id, lifecycle, posture, hwmodel, swversion, sum(n) FROM (
			SELECT tenant_id, lifecycle, posture, hwmodel, swversion, 1 AS n FROM fresh
			UNION ALL SELECT tenant_id, lifecycle, posture, hwmodel, swversion, -1 FROM stale) x
			GROUP BY 1, 2, 3, 4, 5 HAVING sum(n) <> 0;
	END IF;
	IF random() < 0.02 THEN
		PERFORM fold_fleet_count();
	END IF;
	RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION count_devices FROM PUBLIC;
CREATE TRIGGER device_counted_in AFTER INSERT ON device REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION count_devices();
CREATE TRIGGER device_counted_out AFTER DELETE ON device REFERENCING OLD TABLE AS stale FOR EACH STATEMENT EXECUTE FUNCTION count_devices();
CREATE TRIGGER device_counted_anew AFTER UPDATE ON device REFERENCING OLD TABLE AS stale NEW TABLE AS fresh
	FOR EACH STATEMENT EXECUTE FUNCTION count_devices();

-- A device as lists and /v1/devices/{ueid} show it, with the columns that they filter by.
CREATE VIEW device_item WITH (security_invoker = true) AS
SELECT d.device_id, d.tenant_id, d.ueid, d.lifecycle, d.posture, d.hwmodel, d.swname, d.swversion, d.serial, s.inventory_digest,
	json_build_object('ueid', encode(d.ueid, 'hex'), 'tenant', t.id, 'serial', d.serial, 'vendor', d.vendor, 'hwmodel', d.hwmodel,
		'hwversion', d.hwversion, 'oemid', d.oemid, 'swname', d.swname, 'swversion', d.swversion, 'kernel', d.kernel,
		'lifecycle', d.lifecycle, 'posture', d.posture, 'reasons', d.reasons, 'posture_since', rfc3339(d.posture_since),
		'first_seen', rfc3339(d.first_seen), 'last_seen', rfc3339(h.last_seen),
		'epoch', CASE WHEN h.hi > 0 THEN epoch_hex(h.epoch) END, 'seq', nullif(h.hi, 0), 'interval_s', nullif(h.interval_s, 0),
		'support_until', d.support_until, 'end_of_life', d.end_of_life,
		'state_digest', encode(s.state_digest, 'hex'), 'inventory_digest', encode(s.inventory_digest, 'hex'))::text AS item
FROM device d JOIN tenant t ON t.tenant_id = d.tenant_id
	LEFT JOIN device_hot h ON h.device_id = d.device_id
	LEFT JOIN device_state s ON s.device_id = d.device_id;
GRANT SELECT ON device_item TO fleetstate_api;

-- [[first,last],...]
CREATE FUNCTION ranges_json(int8multirange) RETURNS json LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT coalesce(json_agg(json_build_array(lower(r), upper(r) - 1) ORDER BY r), '[]') FROM unnest($1) r
$$;
CREATE FUNCTION flag_names(flags int) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT ARRAY(SELECT name FROM unnest('{late,fork,clock-suspect,grace,chain-break,pending,second-epoch}'::text[])
		WITH ORDINALITY AS x (name, bit) WHERE flags & (1 << (bit::int - 1)) <> 0 ORDER BY bit)
$$;
CREATE FUNCTION section_names(sections int) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT ARRAY(SELECT name FROM unnest('{state,inventory,events}'::text[])
		WITH ORDINALITY AS x (name, bit) WHERE sections & (1 << (bit::int - 1)) <> 0 ORDER BY bit)
$$;
