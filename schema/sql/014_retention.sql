-- Retention: reports whose time is over go by whole partitions, once a checkpoint speaks for them. What is kept of them, by device, epoch and kind: how
-- many they were and the last one's digest, so that an audit still knows what there was and follows the chain from there.

CREATE TABLE report_expired (
	device_id bigint NOT NULL REFERENCES device,
	epoch bigint NOT NULL,
	sections boolean NOT NULL,		-- those with sections, or the quiet ones
	tenant_id int NOT NULL,
	seq bigint NOT NULL,			-- the highest that went
	sha256 bytea NOT NULL,			-- of that message
	n bigint NOT NULL,			-- how many numbers went: neither forks nor what was declared dropped
	PRIMARY KEY (device_id, epoch, sections)
);
ALTER TABLE report_expired ENABLE ROW LEVEL SECURITY;
ALTER TABLE report_expired FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON report_expired TO fleetstate_owner USING (true);
CREATE POLICY tenant ON report_expired FOR SELECT TO fleetstate_api USING (tenant_id = (SELECT tenant_context()));
GRANT SELECT ON report_expired TO fleetstate_api;

-- Drops the oldest partition of quiet reports, or of those with sections, that ends before `keep` ago, and says what it held. Nothing (NULL) when there is
-- none, another collector is at it, or it is busy. Only one that a checkpoint of after its end covers, unless told otherwise.
CREATE FUNCTION expire_reports(with_sections boolean, keep interval, uncovered boolean, OUT partition text, OUT reports bigint, OUT busy boolean)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	parent text := CASE WHEN with_sections THEN 'report_full' ELSE 'report_quiet' END;
	begins timestamptz; ends timestamptz;
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
	EXECUTE format('INSERT INTO report_expired AS x (device_id, epoch, sections, tenant_id, seq, sha256, n)
		SELECT DISTINCT ON (r.device_id, r.epoch) r.device_id, r.epoch, %L::boolean, r.tenant_id, r.seq, r.sha256,
			count(*) FILTER (WHERE NOT EXISTS (SELECT FROM report_drop d WHERE d.device_id = r.device_id AND d.epoch = r.epoch
				AND d.dropped @> r.seq)) OVER (PARTITION BY r.device_id, r.epoch)
		FROM %I r WHERE r.received_at >= %L AND r.received_at < %L AND r.flags & 2 = 0 ORDER BY r.device_id, r.epoch, r.seq DESC
		ON CONFLICT (device_id, epoch, sections) DO UPDATE SET n = x.n + EXCLUDED.n, seq = greatest(x.seq, EXCLUDED.seq),
			sha256 = CASE WHEN EXCLUDED.seq > x.seq THEN EXCLUDED.sha256 ELSE x.sha256 END', with_sections, parent, begins, ends);
	EXECUTE format('SELECT count(*) FROM %I WHERE received_at >= %L AND received_at < %L', parent, begins, ends) INTO reports;
	EXECUTE format('DROP TABLE %I', partition);
EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
	partition := NULL;
	busy := true;
END $$;
REVOKE ALL ON FUNCTION expire_reports FROM PUBLIC;
GRANT EXECUTE ON FUNCTION expire_reports TO fleetstate_ingest;
