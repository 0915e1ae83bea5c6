-- The fleet is counted by what is asked of it, not by each model with each firmware in each posture: what a summary costs does not grow with these.

-- A device that changes is counted here or there: it waits until both are done.
LOCK TABLE device IN SHARE MODE;

-- How many devices there are of a lifecycle in a posture, and of the active ones how many of a model and of a firmware. Written as differences, so that
-- collectors never wait for each other's counts, and folded now and then.
CREATE TABLE fleet_tally (
	tenant_id int NOT NULL,
	kind text NOT NULL,	-- of the value
	lifecycle text NOT NULL,
	value text NOT NULL,
	n bigint NOT NULL
);
CREATE INDEX fleet_tally_kind ON fleet_tally (tenant_id, kind);
ALTER TABLE fleet_tally ENABLE ROW LEVEL SECURITY;
ALTER TABLE fleet_tally FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON fleet_tally TO fleetstate_owner USING (true);
CREATE POLICY tenant ON fleet_tally FOR SELECT TO fleetstate_api USING (tenant_id = (SELECT tenant_context()));
GRANT SELECT ON fleet_tally TO fleetstate_api;

-- What one device counts as.
CREATE FUNCTION tallies_of(lifecycle text, posture text, hwmodel text, swversion text) RETURNS TABLE (kind text, value text)
	LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT v.kind, v.value FROM (VALUES ('posture', posture), ('model', coalesce(hwmodel, '')), ('firmware', coalesce(swversion, ''))) v (kind, value)
		WHERE v.kind = 'posture' OR lifecycle = 'active'
$$;
INSERT INTO fleet_tally SELECT c.tenant_id, t.kind, c.lifecycle, t.value, sum(c.n) FROM fleet_count c, tallies_of(c.lifecycle, c.posture, c.hwmodel, c.swversion) t
	GROUP BY 1, 2, 3, 4 HAVING sum(c.n) <> 0;

-- Each device once.
DROP TABLE fleet_count;
CREATE VIEW fleet_count WITH (security_invoker = true) AS SELECT tenant_id, lifecycle, value AS posture, n FROM fleet_tally WHERE kind = 'posture';
GRANT SELECT ON fleet_count TO fleetstate_api;

CREATE OR REPLACE FUNCTION fold_fleet_count() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	WITH gone AS (
		DELETE FROM fleet_tally WHERE ctid = ANY (ARRAY(SELECT ctid FROM fleet_tally FOR UPDATE SKIP LOCKED)) RETURNING *
	)
	INSERT INTO fleet_tally SELECT tenant_id, kind, lifecycle, value, sum(n) FROM gone GROUP BY 1, 2, 3, 4 HAVING sum(n) <> 0
$$;
-- As before.
CREATE OR REPLACE FUNCTION count_devices() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP = 'INSERT' THEN
		INSERT INTO fleet_tally SELECT d.tenant_id, t.kind, d.lifecycle, t.value, count(*)
			FROM fresh d, tallies_of(d.lifecycle, d.posture, d.hwmodel, d.swversion) t GROUP BY 1, 2, 3, 4;
	ELSIF TG_OP = 'DELETE' THEN
		INSERT INTO fleet_tally SELECT d.tenant_id, t.kind, d.lifecycle, t.value, -count(*)
			FROM stale d, tallies_of(d.lifecycle, d.posture, d.hwmodel, d.swversion) t GROUP BY 1, 2, 3, 4;
	ELSIF NOT EXISTS (SELECT FROM fresh) THEN
		RETURN NULL;
	ELSE
		INSERT INTO fleet_tally SELECT d.tenant_id, t.kind, d.lifecycle, t.value, sum(d.n) FROM (
			SELECT tenant_id, lifecycle, posture, hwmodel, swversion, 1 AS n FROM fresh WHERE deleted_at IS NULL
			UNION ALL SELECT tenant_id, lifecycle, posture, hwmodel, swversion, -1 FROM stale WHERE deleted_at IS NULL) d,
			tallies_of(d.lifecycle, d.posture, d.hwmodel, d.swversion) t GROUP BY 1, 2, 3, 4 HAVING sum(d.n) <> 0;
	END IF;
	IF random() < 0.02 THEN
		PERFORM fold_fleet_count();
	END IF;
	RETURN NULL;
END $$;

-- As before, by a plan that is kept: to make it anew cost more than all the rest of the summary.
CREATE OR REPLACE FUNCTION open_alerts() RETURNS json LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	RETURN (WITH open AS (
		SELECT policy_id, count(*) AS n FROM alert WHERE tenant_id = (SELECT tenant_context()) AND group_id IS NULL AND resolved_at IS NULL GROUP BY 1
		UNION ALL
		SELECT a.policy_id, count(*) FROM alert a JOIN policy p USING (policy_id)
			WHERE a.tenant_id = 0 AND a.group_id IS NULL AND a.resolved_at IS NULL AND (p.impairs OR is_told(0)) GROUP BY 1
	), graded AS (SELECT p.severity, sum(o.n)::bigint AS n FROM open o JOIN policy p USING (policy_id) GROUP BY 1)
	SELECT json_object_agg(s, coalesce((SELECT n FROM graded WHERE severity = s), 0)) FROM unnest('{critical,high,medium,low}'::text[]) s);
END $$;
