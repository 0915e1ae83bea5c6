-- Verdicts swiftly, and in one order. What most outcomes do not need (hysteresis, maintenance, reopening) is not even begun for them: a statement's start
-- costs more than its few rows. And whoever changes alerts or what is pending takes, after the verdicts that it changes, one lock that all such share:
-- groups gather alerts of devices that others hold, in any order.
--	verdicts by device_id, all that the transaction will change -> lock_alerts -> alerts, groups, what is pending, devices
SET search_path = fleetstate, pg_catalog;

-- Held until the transaction ends.
CREATE FUNCTION lock_alerts() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_advisory_xact_lock(8259, 10);
END $$;
REVOKE ALL ON FUNCTION lock_alerts FROM PUBLIC;

-- As in 005, but step by step.
CREATE OR REPLACE FUNCTION apply_outcomes(devices bigint[], policies int[], seen text[]) RETURNS void LANGUAGE plpgsql
	SET search_path = fleetstate, pg_catalog, pg_temp SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
	-- What changes, and from what to what; and of these, by place: what waits or waited, what opens, what closes.
	changed bigint[]; of_tenant int[]; of_policy int[]; was text[]; becomes text[]; reason text[]; held_until timestamptz[];
	waiting bigint[]; opening bigint[]; closing bigint[];
	moved bigint[]; opened bigint[]; reopened bigint[]; closed bigint[]; groups bigint[]; alone bigint[];
BEGIN
	PERFORM FROM device_verdict WHERE device_id = ANY (devices) ORDER BY device_id FOR NO KEY UPDATE;
	WITH u AS MATERIALIZED (
		SELECT x.device_id, x.policy_id, v.tenant_id, p.slot, p.tenant_id IS NOT NULL AS own, p.for_reports, p.for_s, p.clear_reports, p.clear_s,
			coalesce(p.predicate_text, p.id) AS reason, x.n,
			outcome_at(CASE WHEN p.tenant_id IS NULL THEN v.outcomes ELSE v.own_outcomes END, p.slot) AS was,
			CASE WHEN d.lifecycle IN ('active', 'pending') THEN x.seen ELSE '-' END AS seen,
			d.lifecycle <> 'active' AS waits,
			CASE WHEN x.seen = '1' THEN (SELECT max(m.until_at) FROM maintenance m WHERE m.tenant_id = d.tenant_id AND m.until_at > now()
				AND m.from_at <= now() AND in_scope(m.models, m.firmwares, m.labels, d.hwmodel, d.swversion, d.labels)
				AND (m.ueids IS NULL OR d.ueid = ANY (m.ueids))) END AS held_until
		FROM unnest(devices, policies, seen) WITH ORDINALITY AS x (device_id, policy_id, seen, n)
			JOIN device_verdict v ON v.device_id = x.device_id
			JOIN policy p ON p.policy_id = x.policy_id AND p.slot IS NOT NULL
			JOIN device d ON d.device_id = x.device_id
	), q AS MATERIALIZED (
		SELECT u.*, q.due_at <= now() AND (q.reports <= 1 OR h.epoch <> q.epoch OR h.hi - q.seq + 1 >= q.reports) AS ripe, q.due_at
		FROM u LEFT JOIN verdict_pending q ON was IN ('p', 'c', 'h', 'd') AND q.device_id = u.device_id AND q.policy_id = u.policy_id
			LEFT JOIN device_hot h ON h.device_id = q.device_id
	), t AS MATERIALIZED (
		SELECT q.*, CASE seen
			WHEN '1' THEN CASE WHEN was IN ('1', 'c', 'u', 'd') THEN '1' WHEN waits OR held_until IS NOT NULL THEN 'h'
				WHEN was <> 'h' AND (for_reports > 1 OR for_s > 0) AND NOT (was = 'p' AND ripe) THEN 'p' ELSE '1' END
			WHEN '0' THEN CASE WHEN was NOT IN ('1', 'c', 'u', 'd') THEN '0'
				WHEN was <> 'd' AND (clear_reports > 1 OR clear_s > 0) AND NOT (was = 'c' AND ripe) THEN 'c'
				WHEN NOT (was = 'd' AND ripe) AND (SELECT flaps(a.reopened, a.reopened_at) FROM alert a WHERE a.device_id = q.device_id
					AND a.policy_id = q.policy_id AND a.tenant_id = q.tenant_id AND a.resolved_at IS NULL) THEN 'd' ELSE '0' END
			WHEN '?' THEN CASE WHEN was IN ('1', 'c', 'u', 'd') THEN 'u' WHEN was = 'h' THEN 'h' ELSE '?' END
			ELSE '-' END AS becomes
		FROM q
	), c AS MATERIALIZED (
		SELECT t.*, row_number() OVER (ORDER BY n) AS place, becomes IN ('1', 'c', 'u', 'd') AS alerts, was IN ('1', 'c', 'u', 'd') AS alerted
		FROM t WHERE was <> becomes OR (was = 'h' AND due_at <= now())
	), m AS (
		UPDATE device_verdict v SET rev = v.rev + 1, outcomes = CASE WHEN s.slots IS NULL THEN v.outcomes ELSE put_outcomes(v.outcomes, s.slots, s.fresh) END,
			own_outcomes = CASE WHEN s.own_slots IS NULL THEN v.own_outcomes ELSE put_outcomes(v.own_outcomes, s.own_slots, s.own_fresh) END
		FROM (SELECT device_id, array_agg(slot) FILTER (WHERE NOT own) AS slots, array_agg(becomes) FILTER (WHERE NOT own) AS fresh,
				array_agg(slot) FILTER (WHERE own) AS own_slots, array_agg(becomes) FILTER (WHERE own) AS own_fresh
			FROM c WHERE was <> becomes GROUP BY device_id ORDER BY device_id) s
		WHERE v.device_id = s.device_id RETURNING v.device_id
	)
	SELECT array_agg(device_id ORDER BY place), array_agg(tenant_id ORDER BY place), array_agg(policy_id ORDER BY place), array_agg(was ORDER BY place),
		array_agg(becomes ORDER BY place), array_agg(reason ORDER BY place), array_agg(held_until ORDER BY place),
		array_agg(place ORDER BY place) FILTER (WHERE was IN ('p', 'c', 'h', 'd') OR becomes IN ('p', 'c', 'h', 'd')),
		array_agg(place ORDER BY place) FILTER (WHERE alerts AND NOT alerted), array_agg(place ORDER BY place) FILTER (WHERE alerted AND NOT alerts),
		(SELECT array_agg(device_id ORDER BY device_id) FROM m)
		INTO changed, of_tenant, of_policy, was, becomes, reason, held_until, waiting, opening, closing, moved FROM c;
	IF waiting IS NOT NULL OR opening IS NOT NULL OR closing IS NOT NULL THEN
		PERFORM lock_alerts();
	END IF;
	IF waiting IS NOT NULL THEN
		DELETE FROM verdict_pending q USING unnest(waiting) w (place)
			WHERE q.device_id = changed[w.place] AND q.policy_id = of_policy[w.place] AND becomes[w.place] NOT IN ('p', 'c', 'h', 'd');
		INSERT INTO verdict_pending (device_id, policy_id, tenant_id, epoch, seq, reports, due_at)
			SELECT changed[w.place], p.policy_id, of_tenant[w.place], coalesce(h.epoch, 0), coalesce(h.hi, 0),
				CASE becomes[w.place] WHEN 'p' THEN p.for_reports WHEN 'c' THEN p.clear_reports ELSE 0 END,
				CASE becomes[w.place] WHEN 'h' THEN coalesce(held_until[w.place], 'infinity') WHEN 'p' THEN now() + p.for_s * interval '1 s'
					WHEN 'c' THEN now() + p.clear_s * interval '1 s' ELSE now() + reopen_window() END
			FROM unnest(waiting) w (place) JOIN policy p ON p.policy_id = of_policy[w.place] LEFT JOIN device_hot h ON h.device_id = changed[w.place]
			WHERE becomes[w.place] IN ('p', 'c', 'h', 'd') AND was[w.place] <> becomes[w.place]
			ON CONFLICT (device_id, policy_id) DO UPDATE SET since = now(), epoch = EXCLUDED.epoch, seq = EXCLUDED.seq, reports = EXCLUDED.reports,
				due_at = EXCLUDED.due_at;
		UPDATE verdict_pending q SET due_at = coalesce(held_until[w.place], 'infinity') FROM unnest(waiting) w (place)
			WHERE q.device_id = changed[w.place] AND q.policy_id = of_policy[w.place] AND was[w.place] = becomes[w.place];
	END IF;
	IF opening IS NOT NULL THEN
		WITH back AS (
			UPDATE alert a SET resolved_at = NULL, resolved_by = NULL, reopened = a.reopened + 1, reopened_at = now(), acknowledged_at = NULL,
				acknowledged_by = NULL, group_id = NULL, told = true
			FROM (SELECT changed[o.place] AS device_id, (SELECT max(b.alert_id) FROM alert b WHERE b.device_id = changed[o.place]
				AND b.policy_id = of_policy[o.place] AND b.tenant_id IS NOT DISTINCT FROM of_tenant[o.place]) AS alert_id FROM unnest(opening) o (place)) l
			WHERE a.device_id = l.device_id AND a.alert_id = l.alert_id AND a.resolved_at > now() - reopen_window()
			RETURNING a.alert_id
		)
		SELECT array_agg(alert_id) INTO reopened FROM back;
		-- Not where it was reopened: that one is open.
		WITH fresh AS (
			INSERT INTO alert (device_id, tenant_id, policy_id, reasons)
			SELECT changed[o.place], of_tenant[o.place], of_policy[o.place], ARRAY[reason[o.place]] FROM unnest(opening) o (place)
			ON CONFLICT (device_id, policy_id, tenant_id) WHERE resolved_at IS NULL DO NOTHING
			RETURNING alert_id
		)
		SELECT array_agg(alert_id) INTO opened FROM fresh;
	END IF;
	IF closing IS NOT NULL THEN
		WITH over AS (
			-- Each looked up by itself: a plan made while there were few alerts would else go through all that are open.
			UPDATE alert a SET resolved_at = now(), resolved_by = NULL
			FROM (SELECT b.device_id, b.alert_id FROM unnest(closing) o (place), LATERAL (SELECT x.device_id, x.alert_id FROM alert x
				WHERE x.device_id = changed[o.place] AND x.policy_id = of_policy[o.place] AND x.resolved_at IS NULL OFFSET 0) b) l
			WHERE a.device_id = l.device_id AND a.alert_id = l.alert_id
			RETURNING a.alert_id, a.group_id, a.told
		)
		SELECT array_agg(alert_id) FILTER (WHERE told), array_agg(group_id) FILTER (WHERE group_id IS NOT NULL) INTO closed, groups FROM over;
	END IF;
	IF opened IS NOT NULL OR reopened IS NOT NULL THEN
		alone := group_alerts(opened || reopened);
		IF opened && alone THEN
			PERFORM tell_alerts(ARRAY(SELECT a FROM unnest(opened) a WHERE a = ANY (alone)), 'alert.opened', '{}');
		END IF;
		IF reopened && alone THEN
			PERFORM tell_alerts(ARRAY(SELECT a FROM unnest(reopened) a WHERE a = ANY (alone)), 'alert.reopened', '{}');
		END IF;
	END IF;
	IF closed IS NOT NULL THEN
		PERFORM tell_alerts(closed, 'alert.resolved', '{}');
	END IF;
	IF groups IS NOT NULL THEN
		PERFORM leave_groups(groups);
	END IF;
	IF moved IS NOT NULL THEN
		PERFORM settle_posture(moved);
	END IF;
END $$;

-- As in 005, the policies read once for all devices.
CREATE OR REPLACE FUNCTION settle_posture(devices bigint[]) RETURNS void LANGUAGE plpgsql
	SET search_path = fleetstate, pg_catalog, pg_temp SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
	WITH p AS MATERIALIZED (
		SELECT tenant_id, slot, id, severity, builtin, posture FROM policy
		WHERE slot IS NOT NULL AND (tenant_id IS NULL OR tenant_id = ANY (ARRAY(SELECT v.tenant_id FROM device_verdict v WHERE v.device_id = ANY (devices))))
		ORDER BY id
	), x AS MATERIALIZED (
		SELECT d.device_id, d.posture AS previous, o.*, EXISTS (SELECT FROM device_state s WHERE s.device_id = d.device_id) AS has_state
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
		SELECT device_id, previous, unknowns, CASE WHEN untrusted IS NOT NULL THEN 'untrusted' WHEN silent IS NOT NULL THEN 'silent'
				WHEN degraded IS NOT NULL THEN 'degraded' WHEN has_state AND judged AND grave IS NULL THEN 'operational' ELSE 'unknown' END AS posture,
			coalesce(untrusted, silent, degraded, CASE WHEN NOT has_state THEN '{no-state}' WHEN judged THEN grave ELSE '{no-policies}' END, '{}') AS reasons
		FROM x
	), z AS (
		UPDATE device d SET posture = y.posture, reasons = y.reasons, unknowns = y.unknowns,
			posture_since = CASE WHEN y.posture = d.posture THEN d.posture_since ELSE now() END
		FROM y WHERE d.device_id = y.device_id AND (d.posture, d.reasons, d.unknowns) IS DISTINCT FROM (y.posture, y.reasons, y.unknowns::int)
		RETURNING d.device_id, d.tenant_id, d.ueid, d.lifecycle, d.posture, d.reasons, y.previous
	)
	INSERT INTO event (tenant_id, type, ueid, data)
	SELECT z.tenant_id, 'device.posture', z.ueid, jsonb_build_object('posture', z.posture, 'reasons', z.reasons, 'previous', z.previous)
		|| CASE WHEN z.posture = 'silent' THEN jsonb_build_object('last_seen', rfc3339(h.last_seen), 'interval_s', h.interval_s) ELSE '{}' END
	FROM z LEFT JOIN device_hot h ON h.device_id = z.device_id WHERE z.posture <> z.previous AND z.lifecycle = 'active' ORDER BY z.device_id;
END $$;

-- What people do to alerts, in the same order. What a caller acts on is the same for all rows.
ALTER FUNCTION select_alerts(bigint[], jsonb, boolean) RENAME TO find_alerts;
CREATE OR REPLACE FUNCTION find_alerts(ids bigint[], filter jsonb, resolved_too boolean) RETURNS bigint[]
	LANGUAGE plpgsql STABLE SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	mine int := tenant_context(); everyones boolean := mine IS NULL AND acts_on(0); systems boolean := acts_on(0);
BEGIN
	IF ids IS NULL THEN
		PERFORM refuse_others(filter, '{policy,severity,element,ueid,model,firmware,state}', 'filter');
		IF jsonb_path_exists(filter, '$.* ? (@.type() != "string")') THEN
			PERFORM refuse('filter: its values are texts');
		END IF;
		RETURN ARRAY(SELECT a.alert_id FROM alert a JOIN policy p USING (policy_id) LEFT JOIN device d ON d.device_id = a.device_id
			WHERE a.resolved_at IS NULL AND a.group_id IS NULL AND (everyones OR a.tenant_id = mine OR (systems AND a.tenant_id = 0))
				AND p.id = coalesce(filter ->> 'policy', p.id) AND p.severity = coalesce(filter ->> 'severity', p.severity)
				AND (filter ->> 'element' IS NULL OR p.element = filter ->> 'element')
				AND (filter ->> 'ueid' IS NULL OR encode(d.ueid, 'hex') = filter ->> 'ueid')
				AND (filter ->> 'model' IS NULL OR d.hwmodel = filter ->> 'model')
				AND (filter ->> 'firmware' IS NULL OR d.swversion = filter ->> 'firmware')
				AND (filter ->> 'state' IS NULL OR alert_state(a.resolved_at, a.silenced_until, a.acknowledged_at) = filter ->> 'state')
			ORDER BY a.alert_id);
	END IF;
	RETURN ARRAY(SELECT a.alert_id FROM alert a WHERE a.alert_id = ANY (ids) AND (everyones OR a.tenant_id = mine OR (systems AND a.tenant_id = 0))
		AND (resolved_too OR a.resolved_at IS NULL) ORDER BY a.alert_id);
END $$;
-- To change them: nobody else does from here on.
CREATE FUNCTION select_alerts(ids bigint[], filter jsonb, resolved_too boolean) RETURNS bigint[]
	LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	PERFORM lock_alerts();
	RETURN find_alerts(ids, filter, resolved_too);
END $$;
REVOKE ALL ON FUNCTION select_alerts FROM PUBLIC;
CREATE OR REPLACE FUNCTION alert_resolve(ids bigint[], filter jsonb, who text, comment text DEFAULT NULL) RETURNS bigint[]
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	mine bigint[] := find_alerts(ids, filter, false); whole bigint[]; held bigint[]; devices bigint[]; policies int[]; groups bigint[];
BEGIN
	held := ARRAY(SELECT DISTINCT a.device_id FROM alert a WHERE (a.alert_id = ANY (mine) OR a.group_id = ANY (mine)) AND a.resolved_at IS NULL
		AND a.device_id <> 0 ORDER BY 1);
	PERFORM FROM device_verdict v WHERE v.device_id = ANY (held) ORDER BY v.device_id FOR NO KEY UPDATE;
	mine := select_alerts(mine, filter, false);
	whole := ARRAY(SELECT a.alert_id FROM alert a WHERE (a.alert_id = ANY (mine) OR a.group_id = ANY (mine)) AND a.resolved_at IS NULL);
	IF EXISTS (SELECT FROM alert a WHERE a.alert_id = ANY (whole) AND a.device_id <> 0 AND a.device_id <> ALL (held)) THEN
		RAISE EXCEPTION 'a device joined the group meanwhile' USING ERRCODE = 'serialization_failure';
	END IF;
	UPDATE device_verdict v SET rev = v.rev + 1 WHERE v.device_id = ANY (held);
	PERFORM note_alerts(mine, who, 'resolve', comment);
	WITH r AS (
		UPDATE alert a SET resolved_at = now(), resolved_by = left(who, 255), comment = coalesce(nullif(alert_resolve.comment, ''), a.comment),
			devices = CASE WHEN a.device_id = 0 THEN 0 ELSE a.devices END
		WHERE a.alert_id = ANY (whole) AND a.resolved_at IS NULL RETURNING a.device_id, a.policy_id, a.group_id
	)
	SELECT array_agg(r.device_id ORDER BY r.device_id, r.policy_id) FILTER (WHERE p.builtin AND p.posture = 'untrusted' AND r.device_id <> 0),
		array_agg(r.policy_id ORDER BY r.device_id, r.policy_id) FILTER (WHERE p.builtin AND p.posture = 'untrusted' AND r.device_id <> 0),
		array_agg(r.group_id) FILTER (WHERE r.group_id <> ALL (mine))
		INTO devices, policies, groups FROM r JOIN policy p ON p.policy_id = r.policy_id;
	PERFORM tell_alerts(mine, 'alert.resolved', jsonb_strip_nulls(jsonb_build_object('by', who, 'comment', comment)));
	PERFORM leave_groups(groups);
	IF devices IS NOT NULL THEN
		PERFORM apply_outcomes(devices, policies, array_fill('0'::text, ARRAY[cardinality(devices)]));
	END IF;
	RETURN mine;
END $$;

-- As in 001; an update that changed nothing has nothing to count.
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
			SELECT tenant_id, lifecycle, posture, hwmodel, swversion, 1 AS n FROM fresh
			UNION ALL SELECT tenant_id, lifecycle, posture, hwmodel, swversion, -1 FROM stale) x
			GROUP BY 1, 2, 3, 4, 5 HAVING sum(n) <> 0;
	END IF;
	IF random() < 0.02 THEN
		PERFORM fold_fleet_count();
	END IF;
	RETURN NULL;
END $$;
