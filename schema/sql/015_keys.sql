-- Keys that another one took the place of, and certificates that their authority took back.

-- A retired key is good below the number from which its successor signs, in that epoch, and for what is still missing of earlier ones.
ALTER TABLE device_key ADD COLUMN superseded_epoch bigint, ADD COLUMN superseded_seq bigint, ADD COLUMN revoked_at timestamptz, ADD COLUMN revoked_why text;
UPDATE device_key SET revoked_at = now(), revoked_why = 'before it was recorded when' WHERE status = 'revoked';
ALTER TABLE device_key ADD CHECK ((superseded_epoch IS NULL) = (superseded_seq IS NULL));

-- The newest list of each issuer below a trust anchor.
CREATE TABLE crl (
	trust_anchor_id int NOT NULL REFERENCES trust_anchor ON DELETE CASCADE,
	issuer bytea NOT NULL,			-- SHA-256 of its name, DER
	crl bytea NOT NULL,			-- DER
	this_update timestamptz NOT NULL,
	next_update timestamptz NOT NULL,
	loaded_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (trust_anchor_id, issuer)
);
ALTER TABLE crl ENABLE ROW LEVEL SECURITY;
ALTER TABLE crl FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON crl TO fleetstate_owner USING (true);
CREATE POLICY ingest ON crl TO fleetstate_ingest USING (true);
GRANT SELECT ON crl TO fleetstate_ingest;

-- Takes a key back. A device that has no other good one is untrusted from now on. Collectors hear of it at once. False: there is no such key, or it was
-- revoked before.
CREATE FUNCTION revoke_key(device bytea, key bytea, why text) RETURNS boolean LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	id bigint; tenant int;
BEGIN
	UPDATE device_key k SET status = 'revoked', revoked_at = now(), revoked_why = why FROM device d
		WHERE d.ueid = device AND k.device_id = d.device_id AND k.kid = key AND k.status <> 'revoked' RETURNING d.device_id, d.tenant_id INTO id, tenant;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	INSERT INTO event (tenant_id, type, ueid, data) VALUES (tenant, 'device.key-revoked', device, jsonb_build_object('kid', encode(key, 'hex'), 'why', why));
	IF NOT EXISTS (SELECT FROM device_key k WHERE k.device_id = id AND k.status = 'active') THEN
		PERFORM lock_verdicts(ARRAY[id]);
		PERFORM mark_devices(ARRAY[id], '{revoked-key}', '{1}');
	END IF;
	PERFORM pg_notify('fleetstate_device', encode(device, 'hex'));
	RETURN true;
END $$;
REVOKE ALL ON FUNCTION revoke_key FROM PUBLIC;

-- A collector that enrolled a key before it had read the list that names it takes it back.
GRANT EXECUTE ON FUNCTION revoke_key TO fleetstate_ingest;
