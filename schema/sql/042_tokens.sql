-- As before; an operator's token, which is no tenant's, is made without one.
DO $do$
DECLARE
	add CONSTANT text := pg_get_functiondef('add_token'::regproc);
	may CONSTANT text := $$IF mine IS NULL OR c.role NOT IN ('admin', 'operator') OR c.tenant_id <> mine OR (role = 'operator' AND c.role <> 'operator') THEN$$;
BEGIN
	IF strpos(add, may) = 0 THEN
		RAISE EXCEPTION 'add_token is not as it was';
	END IF;
	EXECUTE replace(add, may, $$IF role = 'operator' AND c.role <> 'operator' THEN
		RAISE EXCEPTION 'Only an operator makes an operator''s token.' USING ERRCODE = 'FS403';
	END IF;
	IF c.role NOT IN ('admin', 'operator') OR c.tenant_id <> mine OR (mine IS NULL AND role <> 'operator') THEN$$);
END $do$;
