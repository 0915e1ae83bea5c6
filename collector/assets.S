#define EMBED(name, path) .global name; name: .incbin path; .global name##_end; name##_end: .byte 0;
#define MIGRATION(number, path) EMBED(asset_migration_##number, path)
#define ASSET(symbol, path, url, type) EMBED(asset_##symbol, path)

	.section .rodata
#include "collector/assets.def"
	.section .note.GNU-stack, "", %progbits
