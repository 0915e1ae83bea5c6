-- An operator's word for an epoch that began without one: it becomes the device's current epoch, and what is stored of it is no longer held against the
-- device. False: there is no such epoch that nobody vouched for, of a device that is not gone.
CREATE FUNCTION vouch_epoch(device bytea, wanted bigint) RETURNS boolean LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	id bigint; tenant int; top bigint;
BEGIN
	-- Verdicts are locked before devices.
	SELECT d.device_id INTO id FROM device d WHERE d.ueid = device;
	PERFORM lock_verdicts(ARRAY[id]);
	SELECT d.device_id, d.tenant_id INTO id, tenant FROM device d WHERE d.ueid = device AND d.lifecycle IN ('pending', 'active') FOR NO KEY UPDATE;
	PERFORM FROM device_hot h WHERE h.device_id = id FOR UPDATE;
	UPDATE device_epoch e SET vouched = true WHERE e.device_id = id AND e.epoch = wanted AND NOT e.vouched RETURNING e.hi INTO top;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	UPDATE device_epoch e SET hi = h.hi FROM device_hot h WHERE h.device_id = id AND e.device_id = id AND e.epoch = h.epoch;
	-- Collectors that hold the former row miss when they move it, and read this one. Without facts the device is asked for its state.
	UPDATE device_hot h SET rev = h.rev + 1, epoch = wanted, hi = top, facts = NULL,
		head = (SELECT r.sha256 FROM report r WHERE r.device_id = id AND r.epoch = wanted AND r.seq = top AND r.flags & 2 = 0 LIMIT 1),
		sections_head = (SELECT r.sha256 FROM report_full r WHERE r.device_id = id AND r.epoch = wanted AND r.flags & 2 = 0 ORDER BY r.seq DESC LIMIT 1),
		gaps = EXISTS (SELECT FROM report_gap g WHERE g.device_id = id AND g.epoch = wanted)
		WHERE h.device_id = id;
	INSERT INTO event (tenant_id, type, ueid, data) VALUES (tenant, 'device.reprovision', device, jsonb_build_object('epoch', epoch_hex(wanted)));
	IF NOT EXISTS (SELECT FROM device_epoch e WHERE e.device_id = id AND NOT e.vouched) THEN
		PERFORM mark_devices(ARRAY[id], '{second-epoch}', '{0}');
	END IF;
	PERFORM pg_notify('fleetstate_device', encode(device, 'hex'));
	RETURN true;
END $$;
REVOKE ALL ON FUNCTION vouch_epoch FROM PUBLIC;
