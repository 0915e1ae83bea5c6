-- Lists of a million devices: what a page shows of a device in one value, and the index that begins with the tenant.

-- Tenants differ in size by far, and what the planner knows is the largest's: for it, to walk all devices and leave out others' costs no more than to go along
-- the tenant's own. So it is told that a tenant has few of the rows, whoever it is.
DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['device', 'device_hot', 'device_state', 'device_words', 'device_mark', 'device_violation', 'device_history', 'state_history', 'inventory', 'component'] LOOP
		EXECUTE format('ALTER TABLE %I ALTER tenant_id SET (n_distinct = 200)', t);
	END LOOP;
END $$;

-- What a list shows of the device itself. To hand out each column alone costs as much as to find the device; so they are written as one, as the database
-- hands out a row (record_send), whenever one of them changes. Its reader is format_device.c, and new ones go behind the last.
-- That is the same for ever, but for the client's encoding, which is told here.
CREATE FUNCTION device_card(serial text, vendor text, hwmodel text, hwversion text, oemid text, swname text, swversion text, kernel text, lifecycle text, posture text,
	reasons text[], posture_since timestamptz, first_seen timestamptz, support_until date, end_of_life date, unknowns int, labels text[]) RETURNS bytea
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET client_encoding = 'UTF8' AS $$
BEGIN
	RETURN record_send(ROW(serial, vendor, hwmodel, hwversion, oemid, swname, swversion, kernel, lifecycle, posture, reasons, posture_since, first_seen, support_until,
		end_of_life, unknowns, labels));
END $$;
DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['device', 'device_history'] LOOP
		EXECUTE format('ALTER TABLE %I ADD card bytea GENERATED ALWAYS AS (device_card(serial, vendor, hwmodel, hwversion, oemid, swname, swversion, kernel, lifecycle,'
			' posture, reasons, posture_since, first_seen, support_until, end_of_life, unknowns, labels)) STORED', t);
	END LOOP;
END $$;
ANALYZE device, device_hot, device_state, device_words, device_mark, device_violation, device_history, state_history, inventory, component;
