/* Stands in for the programs that startnet.cmd calls: writes down how it was called, and fails
   as a program that crashes does if it is the agent and told to. */
#include <stdio.h>
#include <string.h>
#include <windows.h>

int main(int argc, char **argv) {
	FILE *f = fopen("C:\\called", "a");
	if (f == NULL || fprintf(f, "%s\n", GetCommandLineA()) < 0 || fclose(f) != 0)
		return 1;
	if (argc > 1 && strcmp(argv[1], "winpe") == 0 && GetFileAttributesA("C:\\crash") != INVALID_FILE_ATTRIBUTES)
		return 0xC0000005;
	return 0;
}
