-- The system's own troubles are the operator's: who runs what where, which certificate ends, which disk is full is no tenant's business. A tenant hears of
-- those that keep its own data from being current, and of these that they are, not why, nor who deals with it. And the last week of a device's
-- certificate has an alert of its own, which is graver.
SET search_path = fleetstate, pg_catalog;

ALTER TABLE policy ADD impairs boolean NOT NULL DEFAULT false;	-- of the system's own: tenants are told that it is so
UPDATE policy SET impairs = true WHERE builtin AND slot IS NULL AND id IN ('broker', 'outbox-lag');
INSERT INTO policy (id, builtin, title, severity, element, slot, changed_by, remediation)
	SELECT 'certificate-urgent', true, 'The device''s certificate ends within days', 'high', 'DI.1', (SELECT min(s) FROM generate_series(1, 1000) s
		WHERE NOT EXISTS (SELECT FROM policy x WHERE x.tenant_id IS NULL AND x.slot = s)), 'fleetstate',
		'Renew it now: at its end a known key is accepted for 30 days more, flagged, then every report is refused.';

-- Whether the caller may know all of what is the tenant's, or the system's.
CREATE FUNCTION is_told(tenant int) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
	SELECT tenant <> 0 OR coalesce(role_context() = 'operator', tenant_context() IS NULL)
$$;

DROP POLICY tenant ON alert;
CREATE POLICY tenant ON alert FOR SELECT TO fleetstate_api USING (tenant_id = (SELECT tenant_context()) OR (tenant_id = 0
	AND (SELECT tenant_context()) IS NOT NULL
	AND ((SELECT role_context()) = 'operator' OR policy_id = ANY ((SELECT array_agg(p.policy_id) FROM policy p WHERE p.impairs)::int[]))));
DROP POLICY tenant ON alert_note;
CREATE POLICY tenant ON alert_note FOR SELECT TO fleetstate_api USING (tenant_id = (SELECT tenant_context()) OR (tenant_id = 0
	AND (SELECT tenant_context()) IS NOT NULL AND (SELECT role_context()) = 'operator'));

-- As before, but for what is not told.
CREATE OR REPLACE VIEW alert_item WITH (security_invoker = true) AS
SELECT a.alert_id, a.tenant_id, a.device_id, a.group_id, a.policy_id, p.id AS policy, p.severity, p.element, d.ueid, d.hwmodel, d.swversion,
	a.opened_at, a.resolved_at, alert_state(a.resolved_at, a.silenced_until, a.acknowledged_at) AS state,
	replace(json_build_object('id', a.alert_id, 'ueid', encode(d.ueid, 'hex'), 'policy', p.id, 'severity', p.severity,
		'state', alert_state(a.resolved_at, a.silenced_until, a.acknowledged_at), 'opened_at', rfc3339(a.opened_at), 'title', p.title,
		'element', p.element, 'remediation', p.remediation, 'reasons', CASE WHEN is_told(a.tenant_id) THEN a.reasons ELSE '{}' END,
		'scope', CASE WHEN a.tenant_id = 0 THEN 'system'
			WHEN a.device_id <> 0 THEN 'device' WHEN p.builtin AND p.slot IS NULL THEN 'tenant' ELSE 'group' END, 'group', a.group_id,
		'devices', CASE WHEN a.device_id = 0 AND a.tenant_id <> 0 THEN a.devices END, 'devices_most', CASE WHEN a.device_id = 0 AND a.tenant_id <> 0
			THEN a.devices_most END, 'acknowledged_by', CASE WHEN is_told(a.tenant_id) THEN a.acknowledged_by END,
		'acknowledged_at', rfc3339(a.acknowledged_at), 'comment', CASE WHEN is_told(a.tenant_id) THEN a.comment END,
		'silenced_until', rfc3339(a.silenced_until), 'silenced_by', CASE WHEN is_told(a.tenant_id) THEN a.silenced_by END,
		'resolved_at', rfc3339(a.resolved_at), 'resolved_by', CASE WHEN is_told(a.tenant_id) THEN a.resolved_by END,
		'reopened', a.reopened, 'reopened_at', rfc3339(a.reopened_at))::text, '"ueid" : null, ', '') AS item
FROM alert a JOIN policy p USING (policy_id) LEFT JOIN device d ON d.device_id = a.device_id;

-- Likewise counted.
CREATE OR REPLACE FUNCTION open_alerts() RETURNS json LANGUAGE sql STABLE SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	WITH open AS (
		SELECT policy_id, count(*) AS n FROM alert WHERE tenant_id = (SELECT tenant_context()) AND group_id IS NULL AND resolved_at IS NULL GROUP BY 1
		UNION ALL
		SELECT a.policy_id, count(*) FROM alert a JOIN policy p USING (policy_id)
			WHERE a.tenant_id = 0 AND a.group_id IS NULL AND a.resolved_at IS NULL AND (p.impairs OR is_told(0)) GROUP BY 1
	), graded AS (SELECT p.severity, sum(o.n)::bigint AS n FROM open o JOIN policy p USING (policy_id) GROUP BY 1)
	SELECT json_object_agg(s, coalesce((SELECT n FROM graded WHERE severity = s), 0)) FROM unnest('{critical,high,medium,low}'::text[]) s
$$;

-- An event of no tenant is the operator's: only sinks of all tenants are sent it.
ALTER TABLE event ALTER tenant_id DROP NOT NULL;

CREATE OR REPLACE FUNCTION tell_alerts(ids bigint[], kind text, more jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO event (tenant_id, type, ueid, data)
	SELECT nullif(a.tenant_id, 0), kind, d.ueid, jsonb_build_object('alert', a.alert_id, 'policy', p.id, 'severity', p.severity, 'title', p.title,
		'element', p.element, 'state', alert_state(a.resolved_at, a.silenced_until, a.acknowledged_at), 'opened_at', rfc3339(a.opened_at),
		'reasons', a.reasons) || CASE WHEN a.device_id = 0 AND a.tenant_id <> 0 THEN jsonb_build_object('devices', a.devices) ELSE '{}' END
		|| more
	FROM alert a JOIN policy p USING (policy_id) LEFT JOIN device d ON d.device_id = a.device_id WHERE a.alert_id = ANY (ids) ORDER BY a.alert_id;
	IF kind <> 'alert.commented' AND EXISTS (SELECT FROM alert a WHERE a.alert_id = ANY (ids) AND a.tenant_id = 0) THEN
		INSERT INTO event (tenant_id, type, data)
		SELECT t.tenant_id, kind, jsonb_build_object('alert', a.alert_id, 'policy', p.id, 'severity', p.severity, 'title', p.title,
			'element', p.element, 'state', alert_state(a.resolved_at, a.silenced_until, a.acknowledged_at), 'opened_at', rfc3339(a.opened_at),
			'reasons', '[]'::jsonb)
		FROM alert a JOIN policy p USING (policy_id) CROSS JOIN tenant t
		WHERE a.alert_id = ANY (ids) AND a.tenant_id = 0 AND p.impairs ORDER BY a.alert_id, t.tenant_id;
	END IF;
END $$;
