-- Retention by tenant: an operator has a tenant's reports, and what its devices were, kept for less or more time than the collector's settings say.
SET search_path = fleetstate, pg_catalog;

-- In seconds; NULL: as the settings say.
ALTER TABLE tenant ADD quiet_s bigint CHECK (quiet_s BETWEEN 86400 AND 1576800000), ADD sections_s bigint CHECK (sections_s BETWEEN 86400 AND 1576800000),
	ADD history_s bigint CHECK (history_s BETWEEN 86400 AND 1576800000);
-- How far a tenant's reports were removed from partitions that others' keep.
CREATE TABLE tenant_expiry (
	tenant_id int NOT NULL REFERENCES tenant,
	sections boolean NOT NULL,
	before timestamptz NOT NULL DEFAULT '-infinity',	-- what came before then is gone of all devices
	until timestamptz NOT NULL,				-- and what came before then, of the devices up to `after`
	after bigint NOT NULL DEFAULT 0,
	PRIMARY KEY (tenant_id, sections)
);
-- Since when it is known what a tenant's devices were, once that was or is its own to say; and whether what was before then is still to be removed.
CREATE TABLE tenant_history (tenant_id int PRIMARY KEY REFERENCES tenant, at timestamptz NOT NULL, due boolean NOT NULL DEFAULT false);
DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['tenant_expiry', 'tenant_history'] LOOP
		EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
		EXECUTE format('CREATE POLICY owner ON %I TO fleetstate_owner USING (true)', t);
	END LOOP;
END $$;
-- Since when it is kept of all others; and, by the former name, of the tenant that asks.
ALTER TABLE device_history_begin RENAME TO device_history_usual;
CREATE FUNCTION history_begin(tenant int) RETURNS timestamptz LANGUAGE sql STABLE SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	SELECT CASE WHEN t.history_s IS NULL THEN greatest(u.at, h.at) ELSE h.at END
		FROM device_history_usual u LEFT JOIN tenant t ON t.tenant_id = tenant LEFT JOIN tenant_history h ON h.tenant_id = tenant
$$;
CREATE VIEW device_history_begin AS SELECT history_begin(tenant_context()) AS at;

-- What is kept beyond the partitions, by device and kind, with the time of its first: found by that, however much there is.
ALTER TABLE device_kept DROP CONSTRAINT device_kept_pkey, ADD sections boolean NOT NULL DEFAULT false, ADD since timestamptz NOT NULL DEFAULT '-infinity';
INSERT INTO device_kept (device_id, tenant_id, sections) SELECT device_id, tenant_id, true FROM device_kept;
ALTER TABLE device_kept ALTER sections DROP DEFAULT, ALTER since DROP DEFAULT, ADD PRIMARY KEY (device_id, sections);
CREATE INDEX device_kept_since ON device_kept (tenant_id, sections, since);
CREATE INDEX report_quiet_kept_received ON report_quiet_kept (device_id, received_at);
CREATE INDEX report_full_kept_received ON report_full_kept (device_id, received_at);

-- Setting it.

CREATE FUNCTION read_seconds(document jsonb, name text, otherwise bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	v jsonb := document -> name;
BEGIN
	IF v IS NULL THEN
		RETURN otherwise;
	ELSIF v = 'null' THEN
		RETURN NULL;
	ELSIF jsonb_typeof(v) <> 'number' OR v::numeric NOT BETWEEN 86400 AND 1576800000 OR v::numeric <> trunc(v::numeric) THEN
		PERFORM refuse(name || ': whole seconds, from 86400, a day, to 1576800000, or null');
	END IF;
	RETURN v::bigint;
END $$;
CREATE FUNCTION retention_json(quiet_s bigint, sections_s bigint, history_s bigint) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT jsonb_build_object('quiet_s', quiet_s, 'sections_s', sections_s, 'history_s', history_s)
$$;
-- Applying it. All of it goes by whole days, as partitions do.

CREATE FUNCTION day_of(at timestamptz) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT date_trunc('day', at, 'UTC') $$;
-- From when on reports of each tenant and kind are kept, where the settings say so and so; usual: as long as those say.
CREATE FUNCTION kept_from(quiet interval, with_sections interval, OUT tenant_id int, OUT sections boolean, OUT at timestamptz, OUT usual interval, OUT own interval)
	RETURNS SETOF record LANGUAGE sql STABLE SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	SELECT t.tenant_id, k.sections, day_of(now() - coalesce(k.own, k.usual)), k.usual, coalesce(k.own, k.usual)
		FROM tenant t, LATERAL (VALUES (false, make_interval(secs => t.quiet_s), quiet), (true, make_interval(secs => t.sections_s), with_sections)) k (sections, own, usual)
$$;
-- What puts rows of `source` among those that are kept; terms of a WITH.
CREATE FUNCTION kept_sql(with_sections boolean, source text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT format('kept AS (INSERT INTO %I SELECT * FROM %s s RETURNING device_id, tenant_id, received_at),
		noted AS (INSERT INTO device_kept AS x (device_id, tenant_id, sections, since) SELECT device_id, tenant_id, %L::boolean, min(received_at) FROM kept GROUP BY 1, 2
			ON CONFLICT (device_id, sections) DO UPDATE SET since = least(x.since, EXCLUDED.since))',
		CASE WHEN with_sections THEN 'report_full_kept' ELSE 'report_quiet_kept' END, source, with_sections)
$$;

-- As before; what is held is kept, and what is a tenant's for longer.
CREATE OR REPLACE FUNCTION expire_reports(with_sections boolean, keep interval, uncovered boolean, OUT partition text, OUT reports bigint, OUT busy boolean)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	parent text := CASE WHEN with_sections THEN 'report_full' ELSE 'report_quiet' END;
	begins timestamptz; ends timestamptz; whole text; stays text; h record; longer int[]; kept bigint;
BEGIN
	busy := false;
	IF NOT pg_try_advisory_xact_lock(8259, 15) THEN
		RETURN;
	END IF;
	SELECT p.name, p.bounds[1]::timestamptz, p.bounds[2]::timestamptz INTO partition, begins, ends FROM (
		SELECT c.relname AS name, regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''([^'']+)''\) TO \(''([^'']+)''\)') AS bounds
			FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = parent::regclass) p
		WHERE p.bounds[2]::timestamptz < now() - keep
			AND (uncovered OR p.bounds[2]::timestamptz <= (SELECT max(made_at) FROM checkpoint))
		ORDER BY p.bounds[1]::timestamptz LIMIT 1;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	-- Whoever waits for the table's lock has everybody else wait behind them: not for long. An audit or a dump may hold it for hours.
	PERFORM set_config('lock_timeout', '1s', true);
	-- The partition by itself shows nobody anything: its rows are read as the table's.
	EXECUTE format('LOCK TABLE %I IN SHARE MODE', partition);
	SELECT * INTO h FROM held();
	longer := ARRAY(SELECT f.tenant_id FROM kept_from(keep, keep) f WHERE f.sections = with_sections AND f.own > f.usual AND f.at < ends ORDER BY 1);
	whole := format('(SELECT * FROM %I WHERE received_at >= %L AND received_at < %L)', parent, begins, ends);
	stays := format('(w.device_id = ANY (%L::bigint[]) OR w.tenant_id = ANY (%L::int[]))', h.devices, h.tenants || longer);
	EXECUTE format('WITH %s SELECT count(*) FROM kept', kept_sql(with_sections, format('(SELECT * FROM %s w WHERE %s)', whole, stays))) INTO kept;
	EXECUTE expired_sql(with_sections, format('(SELECT * FROM %s w WHERE NOT %s)', whole, stays));
	EXECUTE format('SELECT count(*) FROM %s w', whole) INTO reports;
	reports := reports - kept;
	-- Whoever said so meanwhile keeps it too: then all this is for nothing, and done again.
	PERFORM lock_holds(true);
	IF (SELECT (x.devices, x.tenants) IS DISTINCT FROM (h.devices, h.tenants) FROM held() x)
		OR longer <> ARRAY(SELECT f.tenant_id FROM kept_from(keep, keep) f WHERE f.sections = with_sections AND f.own > f.usual AND f.at < ends ORDER BY 1) THEN
		RAISE lock_not_available;
	END IF;
	EXECUTE format('DROP TABLE %I', partition);
EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
	partition := NULL;
	busy := true;
END $$;

-- Removes from the partitions what is over sooner than others': of one tenant and kind, of some hundred devices, at most `most` rows of 30 days. What is
-- held of it is kept by itself. How many reports went, and whether there may be more; neither when another collector is at it. Only what a checkpoint of
-- after that day covers, unless told otherwise.
CREATE FUNCTION expire_tenants(most int, quiet interval, with_sections interval, uncovered boolean, OUT reports bigint, OUT more boolean)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
	covered timestamptz := CASE WHEN uncovered THEN 'infinity' ELSE coalesce((SELECT max(made_at) FROM checkpoint), '-infinity') END;
	w record; h record; x tenant_expiry; parent text; during text; stays text; devices bigint[]; n bigint;
BEGIN
	reports := 0;
	more := false;
	-- Nor while a whole partition goes.
	IF NOT pg_try_advisory_xact_lock(8259, 15) THEN
		RETURN;
	END IF;
	PERFORM lock_holds(true);
	SELECT f.tenant_id, f.sections, coalesce(e.before, '-infinity') AS before, day_of(least(f.at, covered)) AS until INTO w FROM kept_from(quiet, with_sections) f
		LEFT JOIN tenant_expiry e ON e.tenant_id = f.tenant_id AND e.sections = f.sections
		WHERE f.own < f.usual AND coalesce(e.before, '-infinity') < day_of(least(f.at, covered)) ORDER BY f.tenant_id, f.sections LIMIT 1;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	more := true;
	parent := CASE WHEN w.sections THEN 'report_full' ELSE 'report_quiet' END;
	-- Each day is a table of its own, of which a statement locks only so many. Until they are done others are not begun.
	w.until := least(w.until, interval '30 days' + (SELECT min(p.bounds[1]::timestamptz) FROM (
		SELECT regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''([^'']+)''\) TO \(''([^'']+)''\)') AS bounds
			FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = parent::regclass) p WHERE p.bounds[2]::timestamptz > w.before));
	INSERT INTO tenant_expiry AS e (tenant_id, sections, until) VALUES (w.tenant_id, w.sections, w.until)
		ON CONFLICT (tenant_id, sections) DO UPDATE SET until = CASE WHEN e.until > e.before THEN e.until ELSE EXCLUDED.until END RETURNING * INTO x;
	devices := ARRAY(SELECT d.device_id FROM device d WHERE d.tenant_id = w.tenant_id AND d.device_id > x.after ORDER BY d.device_id LIMIT 500);
	IF cardinality(devices) = 0 THEN
		UPDATE tenant_expiry e SET before = e.until, after = 0 WHERE e.tenant_id = w.tenant_id AND e.sections = w.sections;
		RETURN;
	END IF;
	SELECT * INTO h FROM held();
	during := format('r.received_at >= %L AND r.received_at < %L', x.before, x.until);
	stays := format('(w.device_id = ANY (%L::bigint[]) OR w.tenant_id = ANY (%L::int[]))', h.devices, h.tenants);
	EXECUTE format('WITH o AS MATERIALIZED (SELECT o.* FROM unnest($1) u (device_id), LATERAL (SELECT r.device_id, r.epoch, r.seq, r.received_at FROM %1$I r'
		' WHERE r.device_id = u.device_id AND %2$s ORDER BY r.epoch, r.seq, r.received_at LIMIT $2) o LIMIT $2),'
		' gone AS (DELETE FROM %1$I r USING o WHERE r.device_id = o.device_id AND r.epoch = o.epoch AND r.seq = o.seq AND r.received_at = o.received_at AND %2$s RETURNING r.*),'
		' %3$s, told AS (%4$s) SELECT count(*), count(*) - (SELECT count(*) FROM kept) FROM gone', parent, during,
		kept_sql(w.sections, format('(SELECT * FROM gone w WHERE %s)', stays)),
		expired_sql(w.sections, format('(SELECT * FROM gone w WHERE NOT %s)', stays))) USING devices, most INTO n, reports;
	IF n < most THEN
		UPDATE tenant_expiry e SET after = devices[cardinality(devices)] WHERE e.tenant_id = w.tenant_id AND e.sections = w.sections;
	END IF;
END $$;

-- Reports that were kept and are over, for a hold or because their tenant's are kept for longer: at most so many of one device. As purge_devices.
CREATE FUNCTION release_reports(most int, quiet interval, with_sections interval) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
	w record; source text; first timestamptz; n bigint;
BEGIN
	IF NOT pg_try_advisory_xact_lock(8259, 18) THEN
		RETURN 0;
	END IF;
	PERFORM lock_holds(true);
	SELECT k.device_id, f.sections, f.at INTO w FROM kept_from(quiet, with_sections) f JOIN tenant t ON t.tenant_id = f.tenant_id AND t.hold_since IS NULL, LATERAL (
		SELECT k.device_id FROM device_kept k WHERE k.tenant_id = f.tenant_id AND k.sections = f.sections AND k.since < f.at AND device_hold_json(k.device_id) IS NULL
			AND NOT EXISTS (SELECT FROM device_purge p WHERE p.device_id = k.device_id) ORDER BY k.since LIMIT 1) k LIMIT 1;
	IF NOT FOUND THEN
		RETURN 0;
	END IF;
	source := CASE WHEN w.sections THEN 'report_full_kept' ELSE 'report_quiet_kept' END;
	EXECUTE format('WITH gone AS (DELETE FROM %1$I r USING (SELECT epoch, seq, received_at FROM %1$I WHERE device_id = $1 AND received_at < $3 ORDER BY received_at LIMIT $2) o'
		' WHERE r.device_id = $1 AND r.epoch = o.epoch AND r.seq = o.seq AND r.received_at = o.received_at RETURNING r.*), told AS (%2$s)'
		' SELECT count(*) FROM gone', source, expired_sql(w.sections, 'gone')) USING w.device_id, most, w.at INTO n;
	IF n = most THEN
		RETURN n;
	END IF;
	EXECUTE format('SELECT min(received_at) FROM %I WHERE device_id = $1', source) USING w.device_id INTO first;
	UPDATE device_kept k SET since = first WHERE k.device_id = w.device_id AND k.sections = w.sections AND first IS NOT NULL;
	DELETE FROM device_kept k WHERE k.device_id = w.device_id AND k.sections = w.sections AND first IS NULL;
	RETURN n + 1;
END $$;

-- Drops what devices were no more by `keep` ago, once a day, but for what is held; and of each tenant that has a time of its own by that, at most so many
-- rows at once. How many rows. What was before that time is not known any more then.
CREATE FUNCTION expire_history(keep interval, most int) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	until timestamptz := now() - keep; h record; own record; n bigint; sum bigint := 0; went bigint := 0;
BEGIN
	UPDATE device_history_usual b SET at = until WHERE b.at < until - interval '1 day';
	IF FOUND THEN
		PERFORM lock_holds(true);
		SELECT * INTO h FROM held();
		DELETE FROM device_history x WHERE x.valid_from < until AND x.device_id <> ALL (h.devices) AND x.tenant_id <> ALL (h.tenants)
			AND NOT EXISTS (SELECT FROM tenant t WHERE t.tenant_id = x.tenant_id AND t.history_s IS NOT NULL)
			AND EXISTS (SELECT FROM device_history y WHERE y.device_id = x.device_id AND y.valid_from <= until AND (y.valid_from, y.history_id) > (x.valid_from, x.history_id));
		GET DIAGNOSTICS sum = ROW_COUNT;
	END IF;
	IF NOT pg_try_advisory_xact_lock(8259, 19) THEN
		RETURN sum;
	END IF;
	PERFORM lock_holds(true);
	UPDATE tenant_history b SET at = now() - make_interval(secs => t.history_s), due = true FROM tenant t
		WHERE t.tenant_id = b.tenant_id AND t.history_s IS NOT NULL AND b.at < now() - make_interval(secs => t.history_s) - interval '1 day';
	SELECT * INTO h FROM held();
	FOR own IN SELECT * FROM tenant_history b WHERE b.due ORDER BY b.tenant_id LOOP
		DELETE FROM device_history z USING (SELECT x.history_id FROM device_history x WHERE x.tenant_id = own.tenant_id AND x.valid_from < own.at
			AND x.device_id <> ALL (h.devices) AND x.tenant_id <> ALL (h.tenants)
			AND EXISTS (SELECT FROM device_history y WHERE y.device_id = x.device_id AND y.valid_from <= own.at AND (y.valid_from, y.history_id) > (x.valid_from, x.history_id))
			LIMIT most - went) o WHERE z.history_id = o.history_id;
		GET DIAGNOSTICS n = ROW_COUNT;
		went := went + n;
		EXIT WHEN went >= most;
		UPDATE tenant_history b SET due = false WHERE b.tenant_id = own.tenant_id;
	END LOOP;
	RETURN sum + went;
END $$;
REVOKE ALL ON FUNCTION history_begin, read_seconds, kept_from, kept_sql, expire_reports, expire_tenants, release_reports, expire_history FROM PUBLIC;
GRANT EXECUTE ON FUNCTION expire_reports, expire_tenants, release_reports, expire_history TO fleetstate_ingest;
