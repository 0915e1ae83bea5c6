#include "emitter/monitor.h"

/*
 * How each key element is judged. What is adverse stands before what is well; of two adverse ones the worse first. `off` is what the maker or the
 * operator may have chosen, `weak` what harms and makes the device degraded. No rule asks for a volatile fact: a status would wobble with it.
 */
/* clang-format off */
#define RULE(of, asked, how, then, ...) \
	{.element = FACT_ELEMENTS_##of, .fact = FACT_##asked, .test = TEST_##how, .status = STATUS_##then, .words = __VA_ARGS__}

const struct rule monitor_rules[] = {
	RULE(DI_1, DEVICE_ENDORSEMENT_KEY_SHA256, KNOWN, IN_EFFECT, "the TPM's endorsement key"),
	RULE(DI_1, EMITTER_KEY_SHA256, KNOWN, IN_EFFECT, "the ueid of the signing key"),
	RULE(DI_1, DEVICE_HOST_ID, KNOWN, IN_EFFECT, "the machine-id"),

	RULE(DI_2, DEVICE_SERIAL, KNOWN, IN_EFFECT, "the serial number"),
	RULE(DI_2, DEVICE_SOC_SERIAL, KNOWN, IN_EFFECT, "the serial number of the system on a chip"),
	RULE(DI_2, DEVICE_BOARD_SERIAL, KNOWN, IN_EFFECT, "the board's serial number"),
	RULE(DI_2, DEVICE_PRODUCT_UUID, KNOWN, IN_EFFECT, "the firmware's UUID"),
	RULE(DI_2, DEVICE_PERMANENT_MACS, SOME, IN_EFFECT, "a hardware address that is burned in: %"),

	RULE(DC_1, CONFIGURATION_DRIFT, SOME, WEAK, "not as the baseline says: %", .optional = true),
	RULE(DC_1, CONFIGURATION_FILES, SOME, IN_EFFECT, "declared files are watched: %"),
	RULE(DC_1, CONFIGURATION_WRITABLE, FALSE, NOT_SUPPORTED, "/etc can't be written while the system runs", .optional = true),
	RULE(DC_1, CONFIGURATION_FILES, NONE, OFF, "no file is declared, so that a change would not be seen"),

	RULE(DC_2, CONFIGURATION_LOOSE, SOME, WEAK, "others may change it or read its secrets: %"),
	RULE(DC_2, CONFIGURATION_ADMINISTRATORS, LISTS, WEAK, "somebody becomes root without a password", .text = "without password"),
	RULE(DC_2, ACCESS_SECOND_ROOT, SOME, WEAK, "accounts with root's uid beside root: %"),
	RULE(DC_2, CONFIGURATION_LOOSE, NONE, IN_EFFECT, "only root may change it"),

	RULE(DC_3, CONFIGURATION_BASELINE_SIGNED, FALSE, WEAK, "the baseline's signature is not the maker's", .optional = true),
	RULE(DC_3, CONFIGURATION_RESTORE, IS, NOT_SUPPORTED, "nothing brings the secure configuration back", .text = "none"),
	RULE(DC_3, CONFIGURATION_RESTORE, KNOWN, IN_EFFECT, "it comes back by %"),

	RULE(DP_1, DATA_CRYPTO_LIBRARY, BEGINS, WEAK, "% is no longer maintained", .text = "OpenSSL 0.", .optional = true),
	RULE(DP_1, DATA_CRYPTO_LIBRARY, BEGINS, WEAK, "% is no longer maintained", .text = "OpenSSL 1.0.", .optional = true),
	RULE(DP_1, DATA_FIPS, TRUE, IN_EFFECT, "the kernel keeps to FIPS 140"),
	RULE(DP_1, DATA_CRYPTO_LIBRARY, KNOWN, IN_EFFECT, "%"),
	RULE(DP_1, DATA_KEY_STORES, SOME, IN_EFFECT, "keys can be kept out of files: %"),

	RULE(DP_2, DATA_PLAIN_SWAP, TRUE, WEAK, "memory is swapped out to a disk that nothing encrypts", .optional = true),
	RULE(DP_2, DATA_WIPE, IS, NOT_SUPPORTED, "nothing wipes the data", .text = "none"),
	RULE(DP_2, DATA_WIPE, IS, DECLARED, "the maker's firmware wipes it", .text = "declared"),
	RULE(DP_2, DATA_WIPE, KNOWN, IN_EFFECT, "by %"),

	RULE(DP_3, ACCESS_SSH_WEAK, SOME, WEAK, "sshd takes weak algorithms: %", .given = FACT_ACCESS_SSH),
	RULE(DP_3, DATA_CRYPTO_POLICY, BEGINS, WEAK, "the system-wide policy is %", .text = "LEGACY", .optional = true),
	RULE(DP_3, DATA_TLS_FLOOR, BEGINS, WEAK, "the system's OpenSSL takes SSL", .text = "SSL", .optional = true),
	RULE(DP_3, DATA_TLS_FLOOR, IS, WEAK, "the system's OpenSSL takes TLS %", .text = "1.0", .optional = true),
	RULE(DP_3, DATA_TLS_FLOOR, IS, WEAK, "the system's OpenSSL takes TLS %", .text = "1.1", .optional = true),
	RULE(DP_3, DATA_TLS_FLOOR, IS, OFF, "the system's OpenSSL sets no least version of TLS", .text = "none", .optional = true),
	RULE(DP_3, DATA_TLS_SECURITY_LEVEL, BELOW, WEAK, "OpenSSL's security level is %", .number = 1, .optional = true),
	RULE(DP_3, DATA_CRYPTO_POLICY, KNOWN, IN_EFFECT, "the system-wide policy is %"),
	RULE(DP_3, DATA_TLS_FLOOR, KNOWN, IN_EFFECT, "TLS % at least"),

	RULE(LA_1, INTERFACES_UNEXPECTED_SOCKETS, SOME, WEAK, "sockets that are not expected: %", .live = true),
	RULE(LA_1, INTERFACES_UNNECESSARY, SOME, WEAK, "interfaces that are not expected: %", .live = true),
	RULE(LA_1, INTERFACES_USB_STORAGE, IS, OFF, "USB storage is let in", .text = "loaded"),
	RULE(LA_1, INTERFACES_USB_STORAGE, IS, OFF, "USB storage can be loaded", .text = "loadable"),
	RULE(LA_1, INTERFACES_SERIAL_CONSOLES, SOME, OFF, "a serial line offers a console: %", .live = true),
	RULE(LA_1, INTERFACES_USB_STORAGE, KNOWN, IN_EFFECT, "no socket is unexpected; USB storage: %"),

	RULE(LA_2, ACCESS_DEFAULT_PASSWORD, SOME, WEAK, "accounts with the maker's default password: %", .optional = true),
	RULE(LA_2, ACCESS_SSH_EMPTY_PASSWORD, TRUE, WEAK, "sshd takes empty passwords", .given = FACT_ACCESS_SSH),
	RULE(LA_2, ACCESS_SSH_PASSWORD, TRUE, WEAK, "sshd takes passwords", .given = FACT_ACCESS_SSH),
	RULE(LA_2, ACCESS_SSH_ROOT, IS, WEAK, "root may log in over SSH", .text = "yes", .given = FACT_ACCESS_SSH),
	RULE(LA_2, INTERFACES_FIREWALL, IS, WEAK, "there is no packet filter", .text = "none"),
	RULE(LA_2, INTERFACES_FIREWALL_INPUT, IS, WEAK, "the packet filter lets in what no rule names", .text = "accept"),
	RULE(LA_2, INTERFACES_FIREWALL_INPUT, KNOWN, IN_EFFECT, "the packet filter's default is %; no password lets in over SSH"),

	RULE(LA_3, ACCESS_EMPTY_PASSWORD, SOME, WEAK, "accounts without a password: %"),
	RULE(LA_3, ACCESS_WEAK_PASSWORD_HASH, SOME, WEAK, "accounts with a weakly hashed password: %"),
	RULE(LA_3, ACCESS_LOCKOUT_TRIES, ABOVE, IN_EFFECT, "an account is locked after failed log-ins: %", .number = 0),
	RULE(LA_3, ACCESS_DELAY_S, ABOVE, IN_EFFECT, "seconds of waiting after a failed log-in: %", .number = 0),
	RULE(LA_3, ACCESS_LOCKOUT_TRIES, BELOW, OFF, "neither lock-out nor delay after failed log-ins", .number = 1),

	RULE(SU_1, UPDATE_MECHANISMS, NONE, NOT_SUPPORTED, "nothing can update this system"),
	RULE(SU_1, UPDATE_PENDING_SECURITY, ABOVE, WEAK, "security updates that wait: %", .number = 0, .optional = true),
	RULE(SU_1, UPDATE_REBOOT_NEEDED, TRUE, WEAK, "an installed update waits for a reboot", .optional = true),
	RULE(SU_1, UPDATE_MECHANISMS, SOME, IN_EFFECT, "by %"),

	RULE(SU_2, UPDATE_UNSIGNED_SOURCES, SOME, WEAK, "sources that need no signature: %"),
	RULE(SU_2, UPDATE_SIGNATURES_ENFORCED, FALSE, WEAK, "updates need no signature"),
	RULE(SU_2, BOOT_SETUP_MODE, TRUE, WEAK, "UEFI would take new keys from anyone", .optional = true),
	RULE(SU_2, BOOT_RISKS, SOME, WEAK, "the kernel's command line has %", .optional = true),
	RULE(SU_2, INTEGRITY_UNSIGNED_MODULES, SOME, WEAK, "kernel modules without a valid signature: %", .optional = true),
	RULE(SU_2, UPDATE_SIGNATURES_ENFORCED, TRUE, IN_EFFECT, "only signed updates are taken"),

	RULE(SU_3, UPDATE_ROLLBACK, IS, NOT_SUPPORTED, "there is no way back", .text = "none"),
	RULE(SU_3, UPDATE_ROLLBACK, KNOWN, IN_EFFECT, "by %"),

	RULE(SU_4, UPDATE_UNPRIVILEGED, SOME, WEAK, "others than root may: %"),
	RULE(SU_4, UPDATE_KEYS, BELOW, WEAK, "there is no key that updates are signed with", .number = 1, .optional = true),
	RULE(SU_4, UPDATE_UNPRIVILEGED, NONE, IN_EFFECT, "only root may"),

	RULE(SU_5, UPDATE_HELD, SOME, WEAK, "packages that are held back: %", .optional = true),
	RULE(SU_5, UPDATE_ENABLED, FALSE, OFF, "nothing looks for updates by itself"),
	RULE(SU_5, UPDATE_ENABLED, TRUE, IN_EFFECT, "updates are looked for"),

	RULE(SU_6, UPDATE_INSTALL, IS, IN_EFFECT, "updates are installed by themselves", .text = "automatic"),
	RULE(SU_6, UPDATE_DOWNLOAD, IS, IN_EFFECT, "updates are downloaded by themselves", .text = "automatic"),
	RULE(SU_6, UPDATE_NOTIFICATION, IS, OFF, "nothing is automatic, and nobody is told", .text = "none"),
	RULE(SU_6, UPDATE_NOTIFICATION, KNOWN, IN_EFFECT, "by hand; who is told: %"),

	RULE(CS_1, CLOCK_SOURCE, IS, WEAK, "nothing sets the clock that dates the reports", .text = "none", .live = true),
	RULE(CS_1, EMITTER_INTERVAL, KNOWN, IN_EFFECT, "seconds between two reports: %"),

	RULE(CS_2, PACKAGES_BROKEN, SOME, WEAK, "packages that are half installed: %", .optional = true),
	RULE(CS_2, HEALTH_FAILED_UNITS, SOME, WEAK, "services that failed: %", .optional = true),
	RULE(CS_2, HEALTH_FULL, SOME, WEAK, "file systems that are full: %", .live = true),
	RULE(CS_2, HEALTH_READ_ONLY, SOME, WEAK, "file systems that became read-only: %", .live = true),
	RULE(CS_2, INTEGRITY_TAINT, SOME, WEAK, "the kernel is tainted: %", .live = true),
	RULE(CS_2, INTEGRITY_DEBUGGING, LISTS, WEAK, "a debugger can be attached to the kernel", .text = "kgdb"),
	RULE(CS_2, INTEGRITY_DEBUGGING, LISTS, WEAK, "root can alter the running kernel's memory", .text = "/dev/mem"),
	RULE(CS_2, INTEGRITY_DEBUGGING, SOME, OFF, "open to debugging, as most systems come: %"),
	RULE(CS_2, INTEGRITY_DEBUGGING, NONE, IN_EFFECT, "the monitor found nothing amiss"),

	RULE(CS_3, EMITTER_LISTENING, ABOVE, WEAK, "sockets that the emitter listens on: %", .number = 0, .live = true),
	RULE(CS_3, EMITTER_PRIVATE_FILES, FALSE, WEAK, "others can read the emitter's keys, configuration or state"),
	RULE(CS_3, EMITTER_TRANSPORT, IS, WEAK, "reports are sent unencrypted", .text = "plain"),
	RULE(CS_3, EMITTER_USER, IS, WEAK, "the emitter runs as root", .text = "root"),
	RULE(CS_3, EMITTER_SECCOMP, FALSE, WEAK, "nothing confines the emitter's system calls"),
	RULE(CS_3, EMITTER_TRANSPORT, KNOWN, IN_EFFECT, "over %, from files that nobody else can read"),

	RULE(CS_4, EMITTER_RECEIPTS_AHEAD, ABOVE, WEAK, "another one signs with its key, or an old state was put back", .number = 0, .live = true),
	RULE(CS_4, EMITTER_BINARY_INTACT, FALSE, WEAK, "the emitter is not what its package installed", .optional = true),
	RULE(CS_4, INTEGRITY_PACKAGED_ALTERED, SOME, WEAK, "not as their package installed them: %", .optional = true),
	RULE(CS_4, EMITTER_SIGNING_KEY, KNOWN, IN_EFFECT, "signed and chained; the key lies in: %"),

	RULE(CS_5, EMITTER_LOG_FORWARDING, LISTS, WEAK, "the log is sent unencrypted: %", .text = "plain"),
	RULE(CS_5, EMITTER_TRANSPORT, KNOWN, IN_EFFECT, "to the collector over %"),
	RULE(CS_5, EMITTER_LOG_FORWARDING, SOME, IN_EFFECT, "%"),
	RULE(CS_5, EMITTER_LOG_FORWARDING, NONE, OFF, "neither state nor log leaves this system"),
};
const size_t monitor_rules_len = sizeof monitor_rules / sizeof *monitor_rules;
