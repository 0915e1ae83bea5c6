-- Who may call beside those who have a token: client certificates, and whom an identity provider vouches for. Each is a row of api_token, so that all that
-- is said of a token is said of them. And how much a caller may ask.

ALTER TABLE api_token ADD kind text NOT NULL DEFAULT 'token' CHECK (kind IN ('token', 'certificate', 'bearer'));
ALTER TABLE api_token ADD certificate text CHECK (length(certificate) BETWEEN 1 AND 1024);	-- what of it counts: "fingerprint:0a1b...", "dns:siem.example", "subject:CN=..."
ALTER TABLE api_token ADD issuer text;	-- of a bearer: who vouches, and for whom
ALTER TABLE api_token ADD subject text;
ALTER TABLE api_token ADD quota_requests int CHECK (quota_requests BETWEEN 0 AND 1000000);	-- a second; NULL: as the settings have it; 0: any number
ALTER TABLE api_token ADD quota_bytes bigint CHECK (quota_bytes BETWEEN 0 AND 68719476736);	-- a second
ALTER TABLE api_token ADD quota_exports int CHECK (quota_exports BETWEEN 0 AND 1000);		-- at once
ALTER TABLE api_token ADD CHECK ((kind = 'certificate') = (certificate IS NOT NULL) AND (kind = 'bearer') = (issuer IS NOT NULL AND subject IS NOT NULL));
CREATE UNIQUE INDEX api_token_certificate ON api_token (certificate) WHERE revoked_at IS NULL;
CREATE UNIQUE INDEX api_token_bearer ON api_token (issuer, subject, coalesce(tenant_id, 0), role, coalesce(scopes, '{}')) WHERE kind = 'bearer';
CREATE INDEX api_token_bearer_end ON api_token (expires_at) WHERE kind = 'bearer';

-- What the API's role shows for a certificate or a bearer that the collector has verified: nobody can make it up, so that role alone can stand for none.
CREATE FUNCTION token_handle() RETURNS bytea LANGUAGE sql VOLATILE
	AS $$ SELECT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) $$;
REVOKE ALL ON FUNCTION token_handle FROM PUBLIC;

-- The handle of the first of these that somebody mapped, most telling first. One that was revoked is found, and then refused: it does not fall back on a
-- wider one.
CREATE FUNCTION find_certificate(shown text[]) RETURNS bytea LANGUAGE sql STABLE SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	SELECT k.hash FROM unnest(shown) WITH ORDINALITY AS s (text, place) JOIN api_token k ON k.certificate = s.text
		ORDER BY s.place, k.revoked_at IS NOT NULL, k.token_id DESC LIMIT 1
$$;
CREATE INDEX api_token_certificates ON api_token (certificate) WHERE certificate IS NOT NULL;

-- The handle of whom a provider vouches for, up to that time. NULL: there is no such tenant. A subject that was revoked in it stays so, whatever it may do by now.
CREATE FUNCTION admit_bearer(provider text, whom text, called text, tenant text, wanted_role text, within text, until timestamptz) RETURNS bytea
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	mine int := (SELECT t.tenant_id FROM tenant t WHERE t.id = tenant); narrow text[] := string_to_array(nullif(within, ''), ' '); handle bytea;
BEGIN
	IF (mine IS NULL) <> (wanted_role = 'operator') THEN
		RETURN NULL;
	END IF;
	SELECT k.hash INTO handle FROM api_token k WHERE k.kind = 'bearer' AND k.issuer = provider AND k.subject = whom
		AND k.tenant_id IS NOT DISTINCT FROM mine AND k.revoked_at IS NOT NULL LIMIT 1;
	IF FOUND THEN
		RETURN handle;
	END IF;
	INSERT INTO api_token AS k (kind, tenant_id, role, name, hash, scopes, expires_at, issuer, subject)
		VALUES ('bearer', mine, wanted_role, called, token_handle(), narrow, until, provider, whom)
		ON CONFLICT (issuer, subject, coalesce(tenant_id, 0), role, coalesce(scopes, '{}')) WHERE kind = 'bearer'
		DO UPDATE SET expires_at = greatest(k.expires_at, EXCLUDED.expires_at), name = EXCLUDED.name RETURNING k.hash INTO handle;
	-- Those who were not seen for a quarter of a year.
	WITH gone AS MATERIALIZED (SELECT k.token_id FROM api_token k WHERE k.kind = 'bearer' AND k.expires_at < now() - interval '90 days' AND k.revoked_at IS NULL
			AND k.quota_requests IS NULL AND k.quota_bytes IS NULL AND k.quota_exports IS NULL LIMIT 10 FOR UPDATE SKIP LOCKED),
		sessions AS (DELETE FROM api_session s USING gone WHERE s.token_id = gone.token_id)
		DELETE FROM api_token k USING gone WHERE k.token_id = gone.token_id;
	RETURN handle;
END $$;
REVOKE ALL ON FUNCTION find_certificate, admit_bearer FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_certificate, admit_bearer TO fleetstate_ingest;

-- How much who shows this may ask; no row: it is nobody's.
CREATE FUNCTION caller_quota(token_hash bytea) RETURNS TABLE (token_id bigint, requests bigint, bytes bigint, exports bigint) LANGUAGE sql STABLE SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	SELECT k.token_id, k.quota_requests::bigint, k.quota_bytes, k.quota_exports::bigint FROM credential(token_hash) c JOIN api_token k ON k.token_id = c.token_id
$$;
REVOKE ALL ON FUNCTION caller_quota FROM PUBLIC;
GRANT EXECUTE ON FUNCTION caller_quota TO fleetstate_api;

-- As before, with what a token is now.
CREATE OR REPLACE FUNCTION tenant_tokens() RETURNS TABLE (item text, token_id bigint) LANGUAGE sql STABLE SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	SELECT json_build_object('id', k.token_id, 'kind', k.kind, 'tenant', t.id, 'name', k.name, 'role', k.role, 'scopes', k.scopes, 'certificate', k.certificate,
			'issuer', k.issuer, 'subject', k.subject, 'quota', json_build_object('requests', k.quota_requests, 'bytes', k.quota_bytes, 'exports', k.quota_exports),
			'created_at', rfc3339(k.created_at), 'expires_at', rfc3339(k.expires_at), 'revoked_at', rfc3339(k.revoked_at),
			'last_used_at', rfc3339(k.last_used_at))::text, k.token_id
		FROM api_token k LEFT JOIN tenant t ON t.tenant_id = k.tenant_id
		WHERE k.tenant_id = (SELECT tenant_context()) OR (k.tenant_id IS NULL AND (SELECT role_context()) = 'operator')
$$;

-- A tenant's own administrator says neither what a certificate of the operator's CA means nor how much a token may ask.
DROP FUNCTION add_token;
CREATE FUNCTION add_token(token_hash bytea, fresh bytea, role text, name text, scopes text, expires timestamptz, certificate text, quota jsonb) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	c record; mine int := tenant_context(); made bigint;
BEGIN
	SELECT * INTO c FROM caller(token_hash, NULL);
	IF mine IS NULL OR c.role NOT IN ('admin', 'operator') OR c.tenant_id <> mine OR (role = 'operator' AND c.role <> 'operator') THEN
		RAISE EXCEPTION 'The role % gives no such token.', c.role USING ERRCODE = 'FS403';
	END IF;
	IF (certificate IS NOT NULL OR quota IS NOT NULL) AND c.role <> 'operator' THEN
		RAISE EXCEPTION 'The role % maps no certificate and sets no quota.', c.role USING ERRCODE = 'FS403';
	END IF;
	IF role = 'operator' THEN
		mine := NULL;
	END IF;
	IF expires <= now() THEN
		RAISE EXCEPTION 'expires_at: that time is over.' USING ERRCODE = 'FS400';
	END IF;
	PERFORM FROM tenant t WHERE t.tenant_id = tenant_context() FOR NO KEY UPDATE;
	IF (SELECT count(*) FROM api_token k WHERE k.tenant_id IS NOT DISTINCT FROM mine AND k.kind <> 'bearer' AND k.revoked_at IS NULL
			AND (k.expires_at IS NULL OR k.expires_at > now())) >= 1000 THEN
		RAISE EXCEPTION 'There are 1,000 tokens already.' USING ERRCODE = 'FS409';
	END IF;
	IF EXISTS (SELECT FROM api_token k WHERE k.certificate = certificate AND k.revoked_at IS NULL) THEN
		RAISE EXCEPTION 'The certificate is mapped already.' USING ERRCODE = 'FS409';
	END IF;
	INSERT INTO api_token (kind, tenant_id, role, name, hash, scopes, expires_at, certificate, quota_requests, quota_bytes, quota_exports)
		VALUES (CASE WHEN certificate IS NULL THEN 'token' ELSE 'certificate' END, mine, role, name, CASE WHEN certificate IS NULL THEN fresh ELSE token_handle() END,
			string_to_array(nullif(scopes, ''), ' '), expires, certificate, (quota ->> 'requests')::int, (quota ->> 'bytes')::bigint, (quota ->> 'exports')::int)
		RETURNING token_id INTO made;
	RETURN made;
END $$;

-- As before; of whom a provider vouches for, all that he was let in as.
CREATE OR REPLACE FUNCTION revoke_token(token_hash bytea, id bigint) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	c record;
BEGIN
	SELECT * INTO c FROM caller(token_hash, NULL);
	IF c.role NOT IN ('admin', 'operator') THEN
		RAISE EXCEPTION 'The role % revokes no token.', c.role USING ERRCODE = 'FS403';
	END IF;
	UPDATE api_token k SET revoked_at = coalesce(k.revoked_at, now()) FROM api_token x
		WHERE x.token_id = id AND (k.token_id = id OR (k.kind = 'bearer' AND k.issuer = x.issuer AND k.subject = x.subject))
			AND (c.tenant_id IS NULL OR k.tenant_id = c.tenant_id) AND (k.tenant_id = (SELECT tenant_context()) OR k.tenant_id IS NULL)
			AND (c.tenant_id IS NULL OR x.tenant_id = c.tenant_id) AND (x.tenant_id = (SELECT tenant_context()) OR x.tenant_id IS NULL);
	RETURN FOUND;
END $$;
REVOKE ALL ON FUNCTION add_token FROM PUBLIC;
GRANT EXECUTE ON FUNCTION add_token TO fleetstate_api;

-- As before, with what stands behind the name.
CREATE OR REPLACE FUNCTION audit_who(hash bytea, OUT token_id bigint, OUT tenant_id int, OUT who jsonb) LANGUAGE sql STABLE
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	SELECT k.token_id, k.tenant_id, jsonb_build_object('who', k.name, 'role', k.role, 'token', k.token_id)
			|| CASE WHEN s.session_id IS NULL THEN '{}' ELSE jsonb_build_object('session', s.session_id) END
			|| jsonb_strip_nulls(jsonb_build_object('certificate', k.certificate, 'issuer', k.issuer, 'subject', k.subject))
		FROM (SELECT NULL::bigint AS session_id, t.token_id FROM api_token t WHERE t.hash = $1
			UNION ALL SELECT x.session_id, x.token_id FROM api_session x WHERE x.hash = $1) s JOIN api_token k ON k.token_id = s.token_id
$$;
CREATE OR REPLACE FUNCTION audit_changed(token_hash bytea, method text, target text, address text) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	entry jsonb; n bigint; mine int := tenant_context();
BEGIN
	entry := coalesce((SELECT w.who FROM audit_who(token_hash) w), '{}')
		|| jsonb_build_object('kind', 'change', 'method', method, 'target', target, 'address', address);
	n := audit_append(mine, now(), entry);
	-- Viewers read the feed: from where and with which credential is for the log's own readers.
	INSERT INTO event (tenant_id, type, data)
		SELECT mine, 'audit.change', (entry - '{address,token,session,certificate,issuer,subject}'::text[]) || jsonb_build_object('number', n) WHERE mine IS NOT NULL;
	RETURN n;
END $$;

-- Who is signed in stands in settings of the transaction, which whoever has the API's role may write as well. So they are sealed, with the time at which
-- the transaction began, by what only the owner's functions can read: sign_in seals what it found, and without that nobody is signed in, nor is he who was
-- signed in a transaction ago. The owner's own sessions need no seal.
CREATE TABLE context_secret (
	one boolean PRIMARY KEY DEFAULT true CHECK (one),
	secret bytea NOT NULL
);
INSERT INTO context_secret (secret) VALUES (sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));
ALTER TABLE context_secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE context_secret FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON context_secret TO fleetstate_owner USING (true);
-- In plpgsql, which plans it once.
CREATE FUNCTION context_seal(tenant text, role text, who text) RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
	s bytea := (SELECT c.secret FROM context_secret c);
BEGIN
	RETURN encode(sha256(s || sha256(s || timestamptz_send(now()) || convert_to(concat_ws(E'\n', tenant, role, who), 'UTF8'))), 'hex');
END $$;
CREATE FUNCTION context_is_sealed() RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
	RETURN pg_has_role(session_user, 'fleetstate_owner', 'MEMBER') OR coalesce(current_setting('fleetstate.seal', true) = context_seal(
		current_setting('fleetstate.tenant', true), current_setting('fleetstate.role', true), current_setting('fleetstate.who', true)), false);
END $$;
-- For this transaction.
CREATE FUNCTION set_context(tenant int, role text, who text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('fleetstate.tenant', coalesce(tenant::text, ''), true), set_config('fleetstate.role', role, true), set_config('fleetstate.who', who, true),
		set_config('fleetstate.seal', context_seal(coalesce(tenant::text, ''), role, who), true);
END $$;
REVOKE ALL ON FUNCTION context_seal, context_is_sealed, set_context FROM PUBLIC;
CREATE OR REPLACE FUNCTION tenant_context() RETURNS int LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	tenant text := nullif(current_setting('fleetstate.tenant', true), '');
BEGIN
	RETURN CASE WHEN tenant IS NOT NULL AND context_is_sealed() THEN tenant::int END;
END $$;
CREATE OR REPLACE FUNCTION role_context() RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	role text := nullif(current_setting('fleetstate.role', true), '');
BEGIN
	RETURN CASE WHEN role IS NOT NULL AND context_is_sealed() THEN role END;
END $$;
CREATE OR REPLACE FUNCTION who_context() RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	who text := nullif(current_setting('fleetstate.who', true), '');
BEGIN
	RETURN CASE WHEN who IS NOT NULL AND context_is_sealed() THEN who END;
END $$;
REVOKE ALL ON FUNCTION tenant_context, role_context, who_context FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenant_context, role_context, who_context TO fleetstate_api, fleetstate_ingest;
-- As before, with the seal.
CREATE OR REPLACE FUNCTION sign_in(token_hash bytea, wanted text, OUT tenant_id int, OUT tenant text, OUT role text, OUT scopes text)
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
	PERFORM set_context(sign_in.tenant_id, sign_in.role, who);
END $$;
-- As before; whose tenant it is is looked up once.
CREATE OR REPLACE FUNCTION session_item(token_hash bytea) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	SELECT json_build_object('role', k.role, 'tenant', t.id, 'tenant_name', t.name, 'name', k.name, 'scopes', k.scopes, 'expires_at', rfc3339(k.expires_at))::text
		FROM credential(token_hash) k, tenant t WHERE t.tenant_id = (SELECT tenant_context())
$$;
