-- What every request asks of the database before its own question, for less.

-- Who is signed in stood in three settings and their seal in a fourth. Now it is one setting: the seal, and then a line each for the tenant (empty: none),
-- the role and the name. The name is last, and is all the rest, for it may hold anything.
DROP FUNCTION context_is_sealed, context_seal, set_context;

-- As before. But whoever runs SQL may have the plans printed for him, of these functions too, so none that has the secret in it is made then.
CREATE OR REPLACE FUNCTION kept_context_secret() RETURNS bytea LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
	IF current_setting('debug_print_plan')::boolean THEN
		RAISE EXCEPTION 'with debug_print_plan nobody is signed in' USING ERRCODE = 'insufficient_privilege';
	END IF;
	RETURN (SELECT c.secret FROM context_secret c);
END $$;

-- It may have been printed, so there is another. A session that has the old one has it for its sealing and its looks alike.
UPDATE context_secret SET secret = sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));

-- Each statement looks at who is signed in for each of its tables. A function called costs as much as what is done here, so these are an expression each
-- that calls none of ours but the one which the planner takes for a constant.
DO $do$
DECLARE
	-- 32 hex digits. From half of a hash nobody computes that of something longer, so one is enough.
	seal CONSTANT text := $$encode(substr(sha256(kept_context_secret() || timestamptz_send(now()) || convert_to(%1$s, 'UTF8')), 1, 16), 'hex')$$;
	context CONSTANT text := $$current_setting('fleetstate.context', true)$$;
	sealed CONSTANT text := format('starts_with(%s, %s)', context, format(seal, format('right(%s, -32)', context)));
	line CONSTANT text := format($$split_part(%s, E'\n', %%s)$$, context);
	lines CONSTANT text := $$concat(E'\n', tenant, E'\n', role, E'\n', who)$$;
	part record;
BEGIN
	FOR part IN SELECT * FROM (VALUES ('tenant', 'int', format(line, 2)), ('role', 'text', format(line, 3)),
		('who', 'text', format('right(%s, -35 - length(%s) - length(%s))', context, format(line, 2), format(line, 3)))) x (name, type, text)
	LOOP
		-- The owner's own sessions need no seal, and set the three settings of old. They are the fewer.
		EXECUTE format('CREATE OR REPLACE FUNCTION %s_context() RETURNS %s LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER'
			' SET search_path = fleetstate, pg_catalog, pg_temp AS %L', part.name, part.type, format(
			$$BEGIN RETURN nullif(CASE WHEN %s THEN %s WHEN pg_has_role(session_user, 'fleetstate_owner', 'MEMBER') THEN current_setting('fleetstate.%s', true) END, '')::%s; END$$,
			sealed, part.text, part.name, part.type));
	END LOOP;
	-- For this transaction. It returns something because an assignment is an expression, and PERFORM a statement.
	EXECUTE format('CREATE FUNCTION set_context(tenant int, role text, who text) RETURNS text LANGUAGE plpgsql AS %L', format(
		$$BEGIN RETURN set_config('fleetstate.context', %s || %s, true); END$$, format(seal, lines), lines));
END $do$;
REVOKE ALL ON FUNCTION set_context FROM PUBLIC;

-- As before. Most callers show a token of one tenant's, and that tenant is found with it.
CREATE OR REPLACE FUNCTION sign_in(token_hash bytea, wanted text, OUT tenant_id int, OUT tenant text, OUT role text, OUT scopes text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who text;
	context text;
BEGIN
	SELECT k.role, k.tenant_id, t.id, k.name, array_to_string(k.scopes, ' ') INTO sign_in.role, sign_in.tenant_id, sign_in.tenant, who, sign_in.scopes
		FROM api_token k LEFT JOIN tenant t ON t.tenant_id = k.tenant_id
		WHERE k.hash = token_hash AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now());
	-- Each condition costs a little, so one leads to all that is seldom so.
	IF (sign_in.tenant = coalesce(wanted, sign_in.tenant)) IS NOT TRUE THEN
		IF NOT FOUND THEN
			SELECT k.role, k.tenant_id, t.id, k.name, array_to_string(k.scopes, ' ')
				INTO sign_in.role, sign_in.tenant_id, sign_in.tenant, who, sign_in.scopes FROM credential(token_hash) k LEFT JOIN tenant t USING (tenant_id);
			IF NOT FOUND THEN
				RAISE EXCEPTION 'no such token' USING ERRCODE = 'FS401';
			END IF;
		END IF;
		IF sign_in.tenant_id IS NULL THEN
			IF wanted IS NULL THEN
				RAISE EXCEPTION 'an operator names the tenant' USING ERRCODE = 'FS400';
			END IF;
			SELECT t.tenant_id, t.id INTO sign_in.tenant_id, sign_in.tenant FROM tenant t WHERE t.id = wanted;
		END IF;
		IF (sign_in.tenant = coalesce(wanted, sign_in.tenant)) IS NOT TRUE THEN
			RAISE EXCEPTION 'no such tenant' USING ERRCODE = 'FS404';
		END IF;
	END IF;
	context := set_context(sign_in.tenant_id, sign_in.role, who);
END $$;
