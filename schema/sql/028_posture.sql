-- Whoever follows what changes is told as well of reasons that change under the same posture, and of how much is unknown.

-- As in 009, with an event for each change.
CREATE OR REPLACE FUNCTION settle_posture(devices bigint[]) RETURNS void LANGUAGE plpgsql
	SET search_path = fleetstate, pg_catalog, pg_temp SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
	WITH p AS MATERIALIZED (
		SELECT tenant_id, slot, id, severity, builtin, posture FROM policy
		WHERE slot IS NOT NULL AND (tenant_id IS NULL OR tenant_id = ANY (ARRAY(SELECT v.tenant_id FROM device_verdict v WHERE v.device_id = ANY (devices))))
		ORDER BY id
	), x AS MATERIALIZED (
		SELECT d.device_id, d.posture AS previous, d.reasons AS because, o.*, EXISTS (SELECT FROM device_state s WHERE s.device_id = d.device_id) AS has_state
		FROM unnest(devices) WITH ORDINALITY AS u (device_id, n) JOIN device d ON d.device_id = u.device_id JOIN device_verdict v ON v.device_id = u.device_id,
			LATERAL (SELECT array_agg(id) FILTER (WHERE stands AND posture = 'untrusted') AS untrusted,
				array_agg(id) FILTER (WHERE stands AND posture = 'silent') AS silent, array_agg(id) FILTER (WHERE stands AND posture = 'degraded') AS degraded,
				array_agg(id) FILTER (WHERE outcome = '?' AND severity IN ('high', 'critical')) AS grave,
				count(*) FILTER (WHERE outcome = '?') AS unknowns, bool_or(outcome <> '-' AND NOT builtin) AS judged
				FROM (SELECT p.id, p.severity, p.builtin, p.posture, o.outcome, o.outcome IN ('1', 'c', 'u', 'h') AS stands
					FROM p, LATERAL (SELECT outcome_at(CASE WHEN p.tenant_id IS NULL THEN v.outcomes ELSE v.own_outcomes END, p.slot) AS outcome
						OFFSET 0) o
					WHERE p.tenant_id IS NULL OR p.tenant_id = v.tenant_id) p) o
		WHERE d.lifecycle IN ('active', 'pending') ORDER BY u.n
	), y AS MATERIALIZED (
		SELECT device_id, previous, because, unknowns, CASE WHEN untrusted IS NOT NULL THEN 'untrusted' WHEN silent IS NOT NULL THEN 'silent'
				WHEN degraded IS NOT NULL THEN 'degraded' WHEN has_state AND judged AND grave IS NULL THEN 'operational' ELSE 'unknown' END AS posture,
			coalesce(untrusted, silent, degraded, CASE WHEN NOT has_state THEN '{no-state}' WHEN judged THEN grave ELSE '{no-policies}' END, '{}') AS reasons
		FROM x
	), z AS (
		UPDATE device d SET posture = y.posture, reasons = y.reasons, unknowns = y.unknowns,
			posture_since = CASE WHEN y.posture = d.posture THEN d.posture_since ELSE now() END
		FROM y WHERE d.device_id = y.device_id AND (d.posture, d.reasons, d.unknowns) IS DISTINCT FROM (y.posture, y.reasons, y.unknowns::int)
		RETURNING d.device_id, d.tenant_id, d.ueid, d.lifecycle, d.posture, d.reasons, d.unknowns, y.previous, y.because
	)
	INSERT INTO event (tenant_id, type, ueid, data)
	SELECT z.tenant_id, CASE WHEN z.posture <> z.previous THEN 'device.posture' ELSE 'device.judgement' END, z.ueid,
		jsonb_build_object('posture', z.posture, 'reasons', z.reasons)
		|| CASE WHEN z.posture = z.previous THEN jsonb_build_object('unknowns', z.unknowns) ELSE jsonb_build_object('previous', z.previous) END
		|| CASE WHEN z.posture = 'silent' AND z.previous <> 'silent' THEN jsonb_build_object('last_seen', rfc3339(h.last_seen), 'interval_s', h.interval_s) ELSE '{}' END
	FROM z LEFT JOIN device_hot h ON h.device_id = z.device_id WHERE z.lifecycle = 'active'
		-- A first state is an event by itself.
		AND (z.posture <> z.previous OR z.because <> '{no-state}') ORDER BY z.device_id;
END $$;
