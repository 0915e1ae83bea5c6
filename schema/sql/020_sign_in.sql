-- As before. A token, which most callers show, is looked up as it was before there were sessions; a session costs a second look.
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
	PERFORM set_config('fleetstate.tenant', sign_in.tenant_id::text, true), set_config('fleetstate.role', sign_in.role, true),
		set_config('fleetstate.who', who, true);
END $$;
