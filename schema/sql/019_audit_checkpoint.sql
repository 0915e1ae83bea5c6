-- The checkpoint's message says how far the audit log had come; nothing beside it has to.
ALTER TABLE checkpoint DROP audit_number, DROP audit_hash;
