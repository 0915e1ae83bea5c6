-- Deleting devices, and legal holds, which keep what they are on from being deleted, by whomever or by retention.
SET search_path = fleetstate, pg_catalog;

-- Who holds it, why and since when; NULL: nobody does.
ALTER TABLE device ADD hold_since timestamptz, ADD hold_reason text, ADD hold_by text;
ALTER TABLE device ADD CHECK ((hold_since IS NULL) = (hold_reason IS NULL) AND (hold_since IS NULL) = (hold_by IS NULL));
CREATE INDEX device_held ON device (device_id) WHERE hold_since IS NOT NULL;
ALTER TABLE tenant ADD hold_since timestamptz, ADD hold_reason text, ADD hold_by text, ADD revision bigint NOT NULL DEFAULT 1;
ALTER TABLE tenant ADD CHECK ((hold_since IS NULL) = (hold_reason IS NULL) AND (hold_since IS NULL) = (hold_by IS NULL));

-- Reports that are kept beyond their retention: taken out of a partition before it is dropped. `report` has them as all others.
CREATE TABLE report_quiet_kept (LIKE report_quiet INCLUDING DEFAULTS, PRIMARY KEY (device_id, epoch, seq, received_at));
CREATE TABLE report_full_kept (LIKE report_quiet INCLUDING DEFAULTS, PRIMARY KEY (device_id, epoch, seq, received_at));
CREATE INDEX report_quiet_kept_sha256 ON report_quiet_kept USING hash (sha256);
CREATE INDEX report_full_kept_sha256 ON report_full_kept USING hash (sha256);
CREATE OR REPLACE VIEW report WITH (security_invoker = true) AS SELECT * FROM report_quiet UNION ALL SELECT * FROM report_full
	UNION ALL SELECT * FROM report_quiet_kept UNION ALL SELECT * FROM report_full_kept;
-- The devices that have some there.
CREATE TABLE device_kept (device_id bigint PRIMARY KEY REFERENCES device, tenant_id int NOT NULL);
-- Those that were deleted, and of which not all is removed yet.
CREATE TABLE device_purge (device_id bigint PRIMARY KEY REFERENCES device, tenant_id int NOT NULL, since timestamptz NOT NULL DEFAULT now());
DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['report_quiet_kept', 'report_full_kept', 'device_kept', 'device_purge'] LOOP
		EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
		EXECUTE format('CREATE POLICY owner ON %I TO fleetstate_owner USING (true)', t);
		EXECUTE format('CREATE POLICY ingest ON %I FOR SELECT TO fleetstate_ingest USING (true)', t);
	END LOOP;
	FOREACH t IN ARRAY ARRAY['report_quiet_kept', 'report_full_kept'] LOOP
		EXECUTE format('CREATE POLICY tenant ON %I FOR SELECT TO fleetstate_api USING (tenant_id = (SELECT tenant_context()))', t);
		EXECUTE format('GRANT SELECT ON %I TO fleetstate_api', t);
	END LOOP;
END $$;
GRANT SELECT ON report_quiet_kept, report_full_kept, device_kept TO fleetstate_ingest;

-- Holds.

CREATE FUNCTION hold_json(scope text, since timestamptz, reason text, by text) RETURNS jsonb LANGUAGE sql STABLE PARALLEL SAFE AS $$
	SELECT CASE WHEN since IS NOT NULL THEN jsonb_build_object('scope', scope, 'reason', reason, 'by', by, 'since', rfc3339(since)) END
$$;
-- The hold that a device is on: its own, or else its tenant's. NULL: none.
CREATE FUNCTION device_hold_json(device bigint) RETURNS jsonb LANGUAGE sql STABLE AS $$
	SELECT coalesce(hold_json('device', d.hold_since, d.hold_reason, d.hold_by), hold_json('tenant', t.hold_since, t.hold_reason, t.hold_by))
		FROM device d JOIN tenant t ON t.tenant_id = d.tenant_id WHERE d.device_id = $1
$$;
-- All that is held, at one time.
CREATE FUNCTION held(OUT devices bigint[], OUT tenants int[]) LANGUAGE sql STABLE SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	SELECT ARRAY(SELECT d.device_id FROM device d WHERE d.hold_since IS NOT NULL ORDER BY 1), ARRAY(SELECT t.tenant_id FROM tenant t WHERE t.hold_since IS NOT NULL ORDER BY 1)
$$;
-- {"reason": "..."} as text, NULL of null. Fails with FS400.
CREATE FUNCTION read_hold(hold jsonb) RETURNS text LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	IF hold = 'null' THEN
		RETURN NULL;
	ELSIF jsonb_typeof(hold) <> 'object' THEN
		PERFORM refuse('legal_hold: an object with a reason, or null');
	END IF;
	PERFORM refuse_others(hold, '{reason}', 'legal_hold');
	RETURN read_text(hold, 'reason', 1024, true);
END $$;
-- Whoever removes something whose time is over holds this lock alone from when it looks at what is held until that is gone; who holds something shares
-- it. So what was there when a hold was answered is there as long as that lasts.
CREATE FUNCTION lock_holds(alone boolean) RETURNS void LANGUAGE sql AS $$
	SELECT CASE WHEN alone THEN pg_advisory_xact_lock(8259, 16) ELSE pg_advisory_xact_lock_shared(8259, 16) END
$$;
-- Puts a locked device on hold, or ends that. The same reason again changes nothing.
CREATE FUNCTION device_hold(d device, hold jsonb, by text) RETURNS void LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	why text := read_hold(hold);
BEGIN
	IF why IS NOT DISTINCT FROM d.hold_reason THEN
		RETURN;
	END IF;
	PERFORM lock_holds(false);
	UPDATE device x SET hold_reason = why, hold_since = CASE WHEN why IS NOT NULL THEN now() END, hold_by = CASE WHEN why IS NOT NULL THEN left(by, 255) END,
		revision = x.revision + 1 WHERE x.device_id = d.device_id;
	INSERT INTO event (tenant_id, type, ueid, data) VALUES (d.tenant_id, 'device.hold', d.ueid,
		jsonb_build_object('change', CASE WHEN why IS NULL THEN 'released' ELSE 'held' END, 'why', coalesce(why, d.hold_reason), 'by', left(by, 255)));
END $$;
-- Deletion.

-- Deletes a device of the caller's: from here on nobody sees it, and its reports are refused. What is large is removed afterwards, in pieces. What stays is
-- its name and keys, so that it is known when it goes on sending, and of each epoch the highest number and that report's digest, so that an audit knows
-- where the chain ended; the log has them too. `expected` as in device_change. Whether there was one. Fails with FS409 and FS412.
CREATE FUNCTION device_delete(name bytea, by text, expected bigint) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	d device; hold jsonb; chain jsonb; entry bigint;
BEGIN
	d := lock_ledger(find_device(name));
	IF d.device_id IS NULL THEN
		RETURN false;
	END IF;
	IF expected <> d.revision THEN
		RAISE EXCEPTION 'The device is at revision %, not %.', d.revision, expected USING ERRCODE = 'FS412';
	END IF;
	PERFORM FROM tenant t WHERE t.tenant_id = d.tenant_id FOR SHARE;
	hold := device_hold_json(d.device_id);
	IF hold IS NOT NULL THEN
		RAISE EXCEPTION 'The % is on legal hold since %: %', hold ->> 'scope', hold ->> 'since', hold ->> 'reason' USING ERRCODE = 'FS409';
	END IF;
	-- What a collector has under way for it misses this row, and reads the device anew.
	UPDATE device_epoch e SET hi = h.hi FROM device_hot h WHERE h.device_id = d.device_id AND e.device_id = d.device_id AND e.epoch = h.epoch;
	UPDATE device_epoch e SET duplicates = 0, late = 0, forks = 0, chain_breaks = 0 WHERE e.device_id = d.device_id;
	chain := (SELECT coalesce(jsonb_agg(jsonb_build_object('epoch', epoch_hex(e.epoch), 'seq', e.hi, 'sha256', encode(coalesce(h.head,
			(SELECT r.sha256 FROM report r WHERE r.device_id = d.device_id AND r.epoch = e.epoch AND r.seq = e.hi AND r.flags & 2 = 0 LIMIT 1)), 'hex')) ORDER BY e.epoch), '[]')
		FROM device_epoch e LEFT JOIN device_hot h ON h.device_id = e.device_id AND h.epoch = e.epoch WHERE e.device_id = d.device_id AND e.hi > 0);
	UPDATE device_hot h SET rev = h.rev + 1, facts = NULL, last_seen = NULL, last_iat = NULL, interval_s = 0, gaps = false WHERE h.device_id = d.device_id;
	DELETE FROM report_gap x WHERE x.device_id = d.device_id;
	DELETE FROM report_drop x WHERE x.device_id = d.device_id;
	DELETE FROM report_expired x WHERE x.device_id = d.device_id;
	DELETE FROM refusal_count x WHERE x.device_id = d.device_id;
	DELETE FROM refusal x WHERE x.device_id = d.device_id;
	DELETE FROM challenge x WHERE x.device_id = d.device_id;
	DELETE FROM challenge_stray x WHERE x.device_id = d.device_id;
	DELETE FROM device_state x WHERE x.device_id = d.device_id;
	-- One that was transferred is somebody else's by now: the name goes with that.
	UPDATE device x SET lifecycle = CASE x.lifecycle WHEN 'transferred' THEN 'transferred' ELSE 'deleted' END, deleted_at = now(), revision = x.revision + 1,
		posture = 'unknown', reasons = '{no-state}', posture_since = now(), unknowns = 0, labels = '{}', first_seen = NULL, serial = NULL, vendor = NULL,
		hwmodel = NULL, hwversion = NULL, oemid = NULL, swname = NULL, swversion = NULL, kernel = NULL, support_until = NULL, end_of_life = NULL,
		reprovision_until = NULL WHERE x.device_id = d.device_id;
	-- Its alerts are over, and said to be, before they go.
	PERFORM judge_again(ARRAY[d.device_id], (SELECT j.revision FROM judging j WHERE j.tenant_id = 0));
	DELETE FROM verdict_pending x WHERE x.device_id = d.device_id;
	DELETE FROM alert_note n USING alert a WHERE a.device_id = d.device_id AND n.alert_id = a.alert_id;
	DELETE FROM alert a WHERE a.device_id = d.device_id;
	INSERT INTO device_purge (device_id, tenant_id) VALUES (d.device_id, d.tenant_id);
	d.lifecycle := 'deleted';
	PERFORM tell_lifecycle(d, by);
	-- The log's head last: nobody else writes to it from here on.
	entry := audit_append(d.tenant_id, now(), jsonb_build_object('kind', 'change', 'who', by, 'method', 'ERASE',
		'target', '/v1/devices/' || encode(d.ueid, 'hex'), 'address', '-', 'chain', chain));
	INSERT INTO report_drop (device_id, epoch, dropped, tenant_id, cause, declared_by, sha256)
		SELECT e.device_id, e.epoch, int8range(1, e.hi, '[]'), e.tenant_id, 'deleted', entry,
			(SELECT decode(c ->> 'sha256', 'hex') FROM jsonb_array_elements(chain) c WHERE c ->> 'epoch' = epoch_hex(e.epoch))
		FROM device_epoch e WHERE e.device_id = d.device_id AND e.hi > 0;
	RETURN true;
END $$;
REVOKE ALL ON FUNCTION device_hold, read_hold, held, lock_holds, device_delete FROM PUBLIC;
GRANT EXECUTE ON FUNCTION device_delete TO fleetstate_api;

-- Removes what is left of a device that was deleted: at most so many rows of each table. How many rows, and one for the device when it is done; 0: there
-- is none, or another collector is at it.
CREATE FUNCTION purge_devices(most int) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
	id bigint; source text; n bigint; sum bigint := 0; more boolean := false;
BEGIN
	IF NOT pg_try_advisory_xact_lock(8259, 17) THEN
		RETURN 0;
	END IF;
	SELECT p.device_id INTO id FROM device_purge p ORDER BY p.device_id LIMIT 1;
	IF NOT FOUND THEN
		RETURN 0;
	END IF;
	FOREACH source IN ARRAY ARRAY['report_quiet', 'report_full', 'report_quiet_kept', 'report_full_kept'] LOOP
		EXECUTE format('DELETE FROM %1$I r USING (SELECT device_id, epoch, seq, received_at FROM %1$I WHERE device_id = $1 LIMIT $2) o'
			' WHERE r.device_id = $1 AND r.epoch = o.epoch AND r.seq = o.seq AND r.received_at = o.received_at', source) USING id, most;
		GET DIAGNOSTICS n = ROW_COUNT;
		sum := sum + n;
		more := more OR n = most;
	END LOOP;
	DELETE FROM state_history h USING (SELECT * FROM state_history x WHERE x.device_id = id LIMIT most) o
		WHERE h.device_id = id AND h.valid_from = o.valid_from AND h.epoch = o.epoch AND h.seq = o.seq;
	GET DIAGNOSTICS n = ROW_COUNT;
	sum := sum + n;
	more := more OR n = most;
	DELETE FROM device_history h USING (SELECT x.history_id FROM device_history x WHERE x.device_id = id LIMIT most) o WHERE h.history_id = o.history_id;
	GET DIAGNOSTICS n = ROW_COUNT;
	sum := sum + n;
	IF more OR n = most THEN
		RETURN sum;
	END IF;
	DELETE FROM device_kept k WHERE k.device_id = id;
	DELETE FROM device_purge p WHERE p.device_id = id;
	RETURN sum + 1;
END $$;

-- Retention.

-- What counts rows of `source` r that go as expired, and moves the chain's end in what is kept of them.
CREATE FUNCTION expired_sql(with_sections boolean, source text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT format('INSERT INTO report_expired AS x (device_id, epoch, sections, tenant_id, seq, sha256, n)
		SELECT DISTINCT ON (r.device_id, r.epoch) r.device_id, r.epoch, %L::boolean, r.tenant_id, r.seq, r.sha256,
			count(*) FILTER (WHERE NOT EXISTS (SELECT FROM report_drop d WHERE d.device_id = r.device_id AND d.epoch = r.epoch
				AND d.dropped @> r.seq)) OVER (PARTITION BY r.device_id, r.epoch)
		FROM %s r WHERE r.flags & 2 = 0 ORDER BY r.device_id, r.epoch, r.seq DESC
		ON CONFLICT (device_id, epoch, sections) DO UPDATE SET n = x.n + EXCLUDED.n, seq = greatest(x.seq, EXCLUDED.seq),
			sha256 = CASE WHEN EXCLUDED.seq > x.seq THEN EXCLUDED.sha256 ELSE x.sha256 END', with_sections, source)
$$;

REVOKE ALL ON FUNCTION purge_devices, expired_sql FROM PUBLIC;
GRANT EXECUTE ON FUNCTION purge_devices TO fleetstate_ingest;

-- As before, but not of a device that was deleted; and with what is kept.
CREATE OR REPLACE FUNCTION proof_cover(digest bytea, OUT device_id bigint, OUT epoch bigint, OUT seq bigint, OUT sections int, OUT message bytea, OUT number bigint,
	OUT place bigint, OUT top bigint, OUT skips boolean, OUT ended boolean) RETURNS SETOF record
	LANGUAGE plpgsql STABLE ROWS 1 SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
	mine int := tenant_context();
BEGIN
	RETURN QUERY
	SELECT r.device_id, r.epoch, r.seq, r.sections, r.message, l.number, l.place, l.seq, l.sections_head IS NOT NULL,
		NOT EXISTS (SELECT FROM device_hot h WHERE h.device_id = r.device_id AND h.tenant_id = r.tenant_id AND h.epoch = r.epoch AND h.hi >= r.seq)
	FROM report r JOIN device d ON d.device_id = r.device_id AND d.deleted_at IS NULL
		LEFT JOIN LATERAL (SELECT * FROM checkpoint_leaf c WHERE c.device_id = r.device_id AND c.tenant_id = r.tenant_id
		AND c.epoch = r.epoch AND c.seq >= r.seq AND EXISTS (SELECT FROM checkpoint_node n WHERE n.number = c.number) ORDER BY c.number LIMIT 1) l ON true
	WHERE r.sha256 = digest AND r.tenant_id = mine LIMIT 1;
END $$;
CREATE OR REPLACE FUNCTION proof_chain(digest bytea, most_bytes bigint, most_rows bigint) RETURNS TABLE (message bytea)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	WITH c AS MATERIALIZED (SELECT * FROM proof_cover(digest) WHERE number IS NOT NULL),
	f AS MATERIALIZED (SELECT r.seq, r.message FROM c, (SELECT * FROM report_full UNION ALL SELECT * FROM report_full_kept) r WHERE r.device_id = c.device_id
		AND r.epoch = c.epoch AND r.seq > c.seq AND r.seq <= c.top AND r.flags & 2 = 0 AND r.tenant_id = (SELECT tenant_context()) ORDER BY r.seq LIMIT most_rows),
	q AS (SELECT r.seq, r.message FROM c, (SELECT * FROM report_quiet UNION ALL SELECT * FROM report_quiet_kept) r WHERE (c.sections = 0 OR NOT c.skips)
		AND r.device_id = c.device_id AND r.epoch = c.epoch AND r.seq > c.seq AND r.seq <= c.top
		AND (NOT c.skips OR r.seq < coalesce((SELECT min(f.seq) FROM f), c.top + 1)) AND r.flags & 2 = 0 AND r.tenant_id = (SELECT tenant_context())
		ORDER BY r.seq LIMIT most_rows)
	SELECT x.message FROM (SELECT a.seq, a.message, sum(octet_length(a.message)) OVER (ORDER BY a.seq) - octet_length(a.message) AS before
		FROM (SELECT * FROM q UNION ALL SELECT * FROM f) a) x WHERE x.before <= most_bytes ORDER BY x.seq LIMIT most_rows;
END $$;

-- As before; who was deleted is counted nowhere.
CREATE OR REPLACE FUNCTION count_devices() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP = 'INSERT' THEN
		INSERT INTO fleet_count SELECT tenant_id, lifecycle, posture, hwmodel, swversion, count(*) FROM fresh GROUP BY 1, 2, 3, 4, 5;
	ELSIF TG_OP = 'DELETE' THEN
		INSERT INTO fleet_count SELECT tenant_id, lifecycle, posture, hwmodel, swversion, -count(*) FROM stale GROUP BY 1, 2, 3, 4, 5;
	ELSIF NOT EXISTS (SELECT FROM fresh) THEN
		RETURN NULL;
	ELSE
		INSERT INTO fleet_count SELECT tenant_id, lifecycle, posture, hwmodel, swversion, sum(n) FROM (
			SELECT tenant_id, lifecycle, posture, hwmodel, swversion, 1 AS n FROM fresh WHERE deleted_at IS NULL
			UNION ALL SELECT tenant_id, lifecycle, posture, hwmodel, swversion, -1 FROM stale WHERE deleted_at IS NULL) x
			GROUP BY 1, 2, 3, 4, 5 HAVING sum(n) <> 0;
	END IF;
	IF random() < 0.02 THEN
		PERFORM fold_fleet_count();
	END IF;
	RETURN NULL;
END $$;
