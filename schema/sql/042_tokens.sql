-- As before; an operator's token, which is no tenant's, is made without one.
CREATE OR REPLACE FUNCTION add_token(token_hash bytea, fresh bytea, role text, name text, scopes text, expires timestamptz, certificate text, quota jsonb) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	c record; mine int := tenant_context(); made bigint;
BEGIN
	SELECT * INTO c FROM caller(token_hash, NULL);
	IF role = 'operator' AND c.role <> 'operator' THEN
		RAISE EXCEPTION 'Only an operator makes an operator''s token.' USING ERRCODE = 'FS403';
	END IF;
	IF c.role NOT IN ('admin', 'operator') OR c.tenant_id <> mine OR (mine IS NULL AND role <> 'operator') THEN
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
