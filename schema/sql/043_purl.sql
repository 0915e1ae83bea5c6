-- A package URL is found by the name in it, and compared then, as what it does not say may be any. By itself: whoever waits for a table that another
-- migration has may have this one.
DROP INDEX component_purl;
