-- What the HTTP interface needs beside the tables.

-- Where the tenants' events end, in the order of the list: who waits for one is woken by it.
CREATE FUNCTION event_tops(tenants int[]) RETURNS TABLE (top bigint) LANGUAGE sql STABLE SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	SELECT coalesce((SELECT max(e.position) FROM event e WHERE e.tenant_id = t.id), 0)
	FROM unnest(tenants) WITH ORDINALITY AS t (id, place) ORDER BY t.place
$$;
REVOKE ALL ON FUNCTION event_tops FROM PUBLIC;
GRANT EXECUTE ON FUNCTION event_tops TO fleetstate_api;

-- As before, and sets the token's name too: who did it, where something is written.
CREATE OR REPLACE FUNCTION sign_in(token_hash bytea, wanted text, OUT tenant_id int, OUT tenant text, OUT role text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who text;
BEGIN
	SELECT k.role, t.tenant_id, t.id, k.name INTO sign_in.role, sign_in.tenant_id, sign_in.tenant, who FROM api_token k LEFT JOIN tenant t
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
	PERFORM set_config('fleetstate.tenant', sign_in.tenant_id::text, true), set_config('fleetstate.role', sign_in.role, true),
		set_config('fleetstate.who', who, true);
END $$;
CREATE FUNCTION who_context() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT nullif(current_setting('fleetstate.who', true), '') $$;

-- Whether a device violates a policy, held back or not.
CREATE FUNCTION violates(device bigint, policy text) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
	SELECT EXISTS (SELECT FROM device_verdict v, policy p WHERE v.device_id = $1 AND p.id = $2 AND p.deleted_at IS NULL
		AND substr(CASE WHEN p.tenant_id IS NULL THEN v.outcomes ELSE v.own_outcomes END, p.slot, 1) IN ('1', 'c', 'u', 'h'))
$$;
-- How many alerts of each policy are open.
CREATE INDEX alert_count_open ON alert (tenant_id, policy_id) WHERE group_id IS NULL AND resolved_at IS NULL;

-- Until judgement has its own: resolving alone, without judging anew.
DO $do$ BEGIN
	IF to_regprocedure('fleetstate.alert_resolve(bigint[], jsonb, text, text)') IS NULL THEN
		CREATE FUNCTION alert_resolve(ids bigint[], filter jsonb, who text, comment text DEFAULT NULL) RETURNS bigint[]
			LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
		#variable_conflict use_variable
		DECLARE
			mine bigint[] := select_alerts(ids, filter, false);
		BEGIN
			PERFORM note_alerts(mine, who, 'resolve', comment);
			UPDATE alert a SET resolved_at = now(), resolved_by = left(who, 255), comment = coalesce(nullif(alert_resolve.comment, ''), a.comment)
				WHERE (a.alert_id = ANY (mine) OR a.group_id = ANY (mine)) AND a.resolved_at IS NULL;
			PERFORM tell_alerts(mine, 'alert.resolved', jsonb_strip_nulls(jsonb_build_object('by', who, 'comment', comment)));
			RETURN mine;
		END $$;
		REVOKE ALL ON FUNCTION alert_resolve FROM PUBLIC;
		GRANT EXECUTE ON FUNCTION alert_resolve TO fleetstate_api;
	END IF;
END $do$;
