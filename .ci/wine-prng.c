// bcryptprimitives.dll, which Go's runtime asks for random numbers, for a Wine that
// has none.
#include <windows.h>
#include <ntsecapi.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size) {
	return RtlGenRandom(data, (ULONG)size); // SystemFunction036
}
