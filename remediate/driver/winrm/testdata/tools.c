/* Stand-ins for programs of Windows that Wine lacks, in one: which, says the name it is
 * started by. They do what the real ones do with the arguments that the driver gives them.
 *
 *   run FILE             cmd /c "the line in FILE", as the WinRM service starts a command
 *   certutil -f -encode IN OUT
 *   wmic datafile where "name='C:\\…'" get LastModified /value
 */
#include <stdio.h>
#include <string.h>
#include <windows.h>

static int run(const char *file)
{
	static char line[9000], full[9200];
	FILE *f = fopen(file, "rb");
	if (!f || !fread(line, 1, sizeof line - 1, f)) return 250;
	snprintf(full, sizeof full, "cmd.exe /d /c \"%s\"", line);
	STARTUPINFOA si = { .cb = sizeof si };
	PROCESS_INFORMATION pi;
	DWORD code = 251;
	if (!CreateProcessA(NULL, full, NULL, NULL, TRUE, 0, NULL, NULL, &si, &pi)) return 252;
	WaitForSingleObject(pi.hProcess, INFINITE);
	GetExitCodeProcess(pi.hProcess, &code);
	return code;
}

static int encode(const char *in, const char *out)
{
	static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	FILE *f = fopen(in, "rb"), *g = fopen(out, "wb");
	if (!f || !g) return printf("CertUtil: -encode command FAILED: 0x80070002\r\n"), 2;
	fputs("-----BEGIN CERTIFICATE-----\r\n", g);
	unsigned char b[3];
	int n, col = 0;
	while (memset(b, 0, 3), (n = fread(b, 1, 3, f)) > 0) {
		fputc(set[b[0] >> 2], g);
		fputc(set[(b[0] & 3) << 4 | b[1] >> 4], g);
		fputc(n > 1 ? set[(b[1] & 15) << 2 | b[2] >> 6] : '=', g);
		fputc(n > 2 ? set[b[2] & 63] : '=', g);
		if ((col += 4) == 64) fputs("\r\n", g), col = 0;
	}
	fputs(col ? "\r\n-----END CERTIFICATE-----\r\n" : "-----END CERTIFICATE-----\r\n", g);
	fclose(g);
	puts("CertUtil: -encode command completed successfully.\r");
	return 0;
}

/* modified prints a time as if the host were two hours east of Greenwich. */
static int modified(const char *where)
{
	char path[1024];
	int n = 0;
	if (!(where = strchr(where, '\''))) return 1;
	for (where++; *where && *where != '\'' && n < 1000; where++) {
		if (where[0] == '\\' && where[1] == '\\') where++;
		path[n++] = *where;
	}
	path[n] = 0;
	WIN32_FILE_ATTRIBUTE_DATA a;
	if (!GetFileAttributesExA(path, GetFileExInfoStandard, &a)) return printf("No Instance(s) Available.\r\n"), 0;
	ULARGE_INTEGER t = { .LowPart = a.ftLastWriteTime.dwLowDateTime, .HighPart = a.ftLastWriteTime.dwHighDateTime };
	t.QuadPart += 2ULL * 3600 * 10000000;
	FILETIME east = { t.LowPart, t.HighPart };
	SYSTEMTIME s;
	FileTimeToSystemTime(&east, &s);
	printf("\r\r\n\r\r\nLastModified=%04d%02d%02d%02d%02d%02d.%06d+120\r\r\n", s.wYear, s.wMonth, s.wDay, s.wHour, s.wMinute, s.wSecond,
		(int)(t.QuadPart % 10000000 / 10));
	return 0;
}

int main(int argc, char **argv)
{
	const char *me = strrchr(argv[0], '\\') ? strrchr(argv[0], '\\') + 1 : argv[0];
	if (!strnicmp(me, "run", 3) && argc == 2) return run(argv[1]);
	if (!strnicmp(me, "certutil", 8) && argc == 5 && !strcmp(argv[1], "-f") && !strcmp(argv[2], "-encode")) return encode(argv[3], argv[4]);
	if (!strnicmp(me, "wmic", 4) && argc == 7 && !strcmp(argv[1], "datafile")) return modified(argv[3]);
	printf("unknown use of %s\r\n", me);
	return 87;
}
