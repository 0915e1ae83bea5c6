-- What devices told that happened on them, a device's own newest first.
CREATE INDEX event_of_device ON event (tenant_id, ueid, position) WHERE type LIKE 'device.event.%' AND position IS NOT NULL;
