-- Who may see and do what: tokens that are narrowed to scopes, and browsers' sessions.

ALTER TABLE api_token ADD scopes text[] CHECK (cardinality(scopes) BETWEEN 1 AND 32);	-- NULL: whatever the role allows; else it reads these and writes nothing
ALTER TABLE api_token ADD last_used_at timestamptz;	-- about: written now and then
CREATE INDEX api_token_tenant ON api_token (tenant_id, token_id);

-- A browser that signed in with a token. It ends with its time, with its token, or when it is told to.
CREATE TABLE api_session (
	session_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	token_id bigint NOT NULL REFERENCES api_token,
	hash bytea NOT NULL UNIQUE,		-- SHA-256 of the cookie's value
	created_at timestamptz NOT NULL DEFAULT now(),
	expires_at timestamptz NOT NULL DEFAULT now() + interval '8 hours'
);
CREATE INDEX api_session_token ON api_session (token_id, session_id);
ALTER TABLE api_session ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_session FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON api_session TO fleetstate_owner USING (true);

-- Whom a token or a session stands for; no row: nobody, or nobody any more.
CREATE FUNCTION credential(hash bytea) RETURNS TABLE (token_id bigint, tenant_id int, role text, scopes text[], name text, session_id bigint, expires_at timestamptz)
	LANGUAGE sql STABLE AS $$
	SELECT k.token_id, k.tenant_id, k.role, k.scopes, k.name, NULL::bigint, k.expires_at FROM api_token k
		WHERE k.hash = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
	UNION ALL
	SELECT k.token_id, k.tenant_id, k.role, k.scopes, k.name, s.session_id, least(s.expires_at, k.expires_at) FROM api_session s
		JOIN api_token k ON k.token_id = s.token_id
		WHERE s.hash = $1 AND s.expires_at > now() AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
$$;
REVOKE ALL ON FUNCTION credential FROM PUBLIC;

-- As before, for sessions too; and tells the scopes, with spaces between. A token, which most callers show, costs one look, a session two.
DROP FUNCTION sign_in;
CREATE FUNCTION sign_in(token_hash bytea, wanted text, OUT tenant_id int, OUT tenant text, OUT role text, OUT scopes text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who text;
BEGIN
	SELECT k.role, t.tenant_id, t.id, k.name, array_to_string(k.scopes, ' ')
		INTO sign_in.role, sign_in.tenant_id, sign_in.tenant, who, sign_in.scopes FROM api_token k LEFT JOIN tenant t
		ON t.tenant_id = coalesce(k.tenant_id, (SELECT w.tenant_id FROM tenant w WHERE w.id = wanted)) AND (wanted IS NULL OR t.id = wanted)
		WHERE k.hash = token_hash AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now());
	IF NOT FOUND THEN
		SELECT k.role, t.tenant_id, t.id, k.name, array_to_string(k.scopes, ' ')
			INTO sign_in.role, sign_in.tenant_id, sign_in.tenant, who, sign_in.scopes FROM credential(token_hash) k LEFT JOIN tenant t
			ON t.tenant_id = coalesce(k.tenant_id, (SELECT w.tenant_id FROM tenant w WHERE w.id = wanted)) AND (wanted IS NULL OR t.id = wanted);
		IF NOT FOUND THEN
			RAISE EXCEPTION 'no such token' USING ERRCODE = 'FS401';
		END IF;
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
REVOKE ALL ON FUNCTION sign_in FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sign_in TO fleetstate_api;

-- For what judges the caller itself.
CREATE FUNCTION caller(token_hash bytea, scope text, OUT tenant_id int, OUT role text, OUT token_id bigint) LANGUAGE plpgsql STABLE
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	scopes text[];
BEGIN
	SELECT k.tenant_id, k.role, k.token_id, k.scopes INTO caller.tenant_id, caller.role, caller.token_id, scopes FROM credential(token_hash) k;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'no such token' USING ERRCODE = 'FS401';
	END IF;
	IF scopes IS NOT NULL AND (scope IS NULL OR scope <> ALL (scopes)) THEN
		RAISE EXCEPTION 'The token is for % only.', array_to_string(scopes, ', ') USING ERRCODE = 'FS403';
	END IF;
END $$;
REVOKE ALL ON FUNCTION caller FROM PUBLIC;

-- As before, with the scope.
CREATE OR REPLACE FUNCTION fleet_metrics(token_hash bytea, wanted text) RETURNS TABLE (family text, tenant text, label text, value text, n bigint)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	mine int; ids int[];
BEGIN
	mine := (SELECT c.tenant_id FROM caller(token_hash, 'metrics') c);
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
CREATE OR REPLACE FUNCTION sink_metrics(token_hash bytea, wanted text) RETURNS TABLE (family text, tenant text, label text, value text, n bigint)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	k record;
BEGIN
	SELECT c.tenant_id INTO k FROM caller(token_hash, 'metrics') c;
	RETURN QUERY
		WITH s AS MATERIALIZED (SELECT s.name, coalesce(t.id, '') AS tenant, c.*, h.top, (SELECT e.time FROM event e WHERE e.position > c.position
				AND (s.tenant_id IS NULL OR e.tenant_id = s.tenant_id) ORDER BY e.position LIMIT 1) AS since
			FROM sink s JOIN sink_cursor c ON c.sink_id = s.sink_id LEFT JOIN tenant t ON t.tenant_id = s.tenant_id, event_head h
			WHERE (k.tenant_id IS NULL OR s.tenant_id = k.tenant_id) AND (wanted IS NULL OR t.id = wanted))
		SELECT f.family, s.tenant, 'sink', s.name, f.n::bigint FROM s, LATERAL (VALUES
			('sink_lag_events', CASE WHEN s.since IS NULL THEN 0 ELSE s.top - s.position END),
			('sink_lag_seconds', greatest(0, ceil(coalesce(extract(epoch FROM now() - s.since), 0)))),
			('sink_failing', (s.failed_at IS NOT NULL)::int),
			('sink_delivered', s.delivered), ('sink_retried', s.retried), ('sink_dead', s.dead), ('sink_missed', s.missed)) AS f (family, n);
END $$;

-- Tokens, as a tenant's administrators see and make them over HTTP. Whoever calls shows a credential: a context alone makes no token.
CREATE FUNCTION tenant_tokens() RETURNS TABLE (item text, token_id bigint) LANGUAGE sql STABLE SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	SELECT json_build_object('id', k.token_id, 'tenant', t.id, 'name', k.name, 'role', k.role, 'scopes', k.scopes, 'created_at', rfc3339(k.created_at),
			'expires_at', rfc3339(k.expires_at), 'revoked_at', rfc3339(k.revoked_at), 'last_used_at', rfc3339(k.last_used_at))::text, k.token_id
		FROM api_token k LEFT JOIN tenant t ON t.tenant_id = k.tenant_id
		WHERE k.tenant_id = (SELECT tenant_context()) OR (k.tenant_id IS NULL AND (SELECT role_context()) = 'operator')
$$;

CREATE FUNCTION add_token(token_hash bytea, fresh bytea, role text, name text, scopes text, expires timestamptz) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	c record; mine int := tenant_context(); made bigint;
BEGIN
	SELECT * INTO c FROM caller(token_hash, NULL);
	IF mine IS NULL OR c.role NOT IN ('admin', 'operator') OR c.tenant_id <> mine OR (role = 'operator' AND c.role <> 'operator') THEN
		RAISE EXCEPTION 'The role % gives no such token.', c.role USING ERRCODE = 'FS403';
	END IF;
	IF role = 'operator' THEN
		mine := NULL;
	END IF;
	IF expires <= now() THEN
		RAISE EXCEPTION 'expires_at: that time is over.' USING ERRCODE = 'FS400';
	END IF;
	PERFORM FROM tenant t WHERE t.tenant_id = tenant_context() FOR NO KEY UPDATE;
	IF (SELECT count(*) FROM api_token k WHERE k.tenant_id IS NOT DISTINCT FROM mine AND k.revoked_at IS NULL
			AND (k.expires_at IS NULL OR k.expires_at > now())) >= 1000 THEN
		RAISE EXCEPTION 'There are 1,000 tokens already.' USING ERRCODE = 'FS409';
	END IF;
	INSERT INTO api_token (tenant_id, role, name, hash, scopes, expires_at)
		VALUES (mine, role, name, fresh, string_to_array(nullif(scopes, ''), ' '), expires) RETURNING token_id INTO made;
	RETURN made;
END $$;

-- Every transaction signs in anew, so it ends at once at every collector.
CREATE FUNCTION revoke_token(token_hash bytea, id bigint) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	c record;
BEGIN
	SELECT * INTO c FROM caller(token_hash, NULL);
	IF c.role NOT IN ('admin', 'operator') THEN
		RAISE EXCEPTION 'The role % revokes no token.', c.role USING ERRCODE = 'FS403';
	END IF;
	UPDATE api_token k SET revoked_at = coalesce(k.revoked_at, now())
		WHERE k.token_id = id AND (c.tenant_id IS NULL OR k.tenant_id = c.tenant_id) AND (k.tenant_id = tenant_context() OR k.tenant_id IS NULL);
	RETURN FOUND;
END $$;

-- A session of whoever shows a token; a session makes no other one.
CREATE FUNCTION open_session(token_hash bytea, fresh bytea) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	k record;
BEGIN
	SELECT * INTO k FROM credential(token_hash);
	IF NOT FOUND OR k.session_id IS NOT NULL THEN
		RAISE EXCEPTION 'no such token' USING ERRCODE = 'FS401';
	END IF;
	PERFORM FROM api_token t WHERE t.token_id = k.token_id FOR NO KEY UPDATE;
	DELETE FROM api_session s WHERE s.token_id = k.token_id AND (s.expires_at <= now() - interval '1 minute'
		OR s.session_id <= (SELECT x.session_id FROM api_session x WHERE x.token_id = k.token_id ORDER BY x.session_id DESC OFFSET 99 LIMIT 1));
	INSERT INTO api_session (token_id, hash) VALUES (k.token_id, fresh);
END $$;
-- One that is closed stays until the next one is opened, so that it can be said whose it was.
CREATE FUNCTION close_session(token_hash bytea) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	UPDATE api_session s SET expires_at = now() WHERE s.hash = token_hash;
	RETURN FOUND;
END $$;
-- Who is signed in.
CREATE FUNCTION session_item(token_hash bytea) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	SELECT json_build_object('role', k.role, 'tenant', t.id, 'tenant_name', t.name, 'name', k.name, 'scopes', k.scopes, 'expires_at', rfc3339(k.expires_at))::text
		FROM credential(token_hash) k, tenant t WHERE t.tenant_id = tenant_context()
$$;
REVOKE ALL ON FUNCTION tenant_tokens, add_token, revoke_token, open_session, close_session, session_item FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenant_tokens, add_token, revoke_token, open_session, close_session, session_item TO fleetstate_api;
