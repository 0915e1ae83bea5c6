-- What the HTTP interface needs beside the tables.

-- Where the tenants' events end, in the order of the list: who waits for one is woken by it.
CREATE FUNCTION event_tops(tenants int[]) RETURNS TABLE (top bigint) LANGUAGE sql STABLE SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	SELECT coalesce((SELECT max(e.position) FROM event e WHERE e.tenant_id = t.id), 0)
	FROM unnest(tenants) WITH ORDINALITY AS t (id, place) ORDER BY t.place
$$;
REVOKE ALL ON FUNCTION event_tops FROM PUBLIC;
GRANT EXECUTE ON FUNCTION event_tops TO fleetstate_api;

-- Whether a device violates a policy, held back or not.
CREATE FUNCTION violates(device bigint, policy text) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
	SELECT EXISTS (SELECT FROM device_verdict v, policy p WHERE v.device_id = $1 AND p.id = $2 AND p.deleted_at IS NULL
		AND substr(CASE WHEN p.tenant_id IS NULL THEN v.outcomes ELSE v.own_outcomes END, p.slot, 1) IN ('1', 'c', 'u', 'h'))
$$;
-- How many alerts are open, of the tenant that is signed in and of the system's own, by severity.
CREATE INDEX alert_count_open ON alert (tenant_id, policy_id) WHERE group_id IS NULL AND resolved_at IS NULL;
CREATE FUNCTION open_alerts() RETURNS json LANGUAGE sql STABLE SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	WITH open AS (
		SELECT policy_id, count(*) AS n FROM alert WHERE tenant_id = (SELECT tenant_context()) AND group_id IS NULL AND resolved_at IS NULL GROUP BY 1
		UNION ALL
		SELECT policy_id, count(*) FROM alert WHERE tenant_id = 0 AND group_id IS NULL AND resolved_at IS NULL GROUP BY 1
	), graded AS (SELECT p.severity, sum(o.n)::bigint AS n FROM open o JOIN policy p USING (policy_id) GROUP BY 1)
	SELECT json_object_agg(s, coalesce((SELECT n FROM graded WHERE severity = s), 0)) FROM unnest('{critical,high,medium,low}'::text[]) s
$$;
REVOKE ALL ON FUNCTION open_alerts FROM PUBLIC;
GRANT EXECUTE ON FUNCTION open_alerts TO fleetstate_api;
