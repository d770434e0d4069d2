"""A WS-Management endpoint whose login and sealing are MIT GSSAPI's, for winrm's tests.

usage: acceptor.py ntlm|kerberos [CERT KEY]

It prints the port it listens on. NTLM_USER_FILE or KRB5_KTNAME say who is admitted. A
command prints its own line, then its standard input, and ends with code 7.
"""
import base64
import http.server
import re
import ssl
import struct
import sys
import uuid

import gssapi

NTLM = gssapi.OID.from_int_seq('1.3.6.1.4.1.311.2.2.10')
KRB5 = gssapi.OID.from_int_seq('1.2.840.113554.1.2.2')
SPNEGO = gssapi.OID.from_int_seq('1.3.6.1.5.5.2')
MECHS = {'ntlm': [NTLM], 'kerberos': [KRB5, SPNEGO]}[sys.argv[1]]
TLS = len(sys.argv) > 2
SEALED = 'multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="Encrypted Boundary"'
SHELL = 'http://schemas.microsoft.com/wbem/wsman/1/windows/shell'
INPUT = {}
LINES = {}


def text(soap, tag):
    m = re.search(r'<(?:\w+:)?%s[^>]*>(.*?)</(?:\w+:)?%s>' % (tag, tag), soap, re.S)
    return m.group(1) if m else ''


def stream(data):
    return '<rsp:Stream Name="stdout">%s</rsp:Stream>' % base64.b64encode(data).decode()


def answer(soap):
    action = text(soap, 'Action')
    verb = re.split('[/]', action)[-1]
    if verb == 'Create':
        body = '<rsp:Shell><rsp:ShellId>%s</rsp:ShellId></rsp:Shell>' % uuid.uuid4()
    elif verb == 'Command':
        command = str(uuid.uuid4())
        LINES[command] = re.search(r'<!\[CDATA\[(.*)\]\]>', soap, re.S).group(1).encode()
        INPUT[command] = b''
        body = '<rsp:CommandResponse><rsp:CommandId>%s</rsp:CommandId></rsp:CommandResponse>' % command
    elif verb == 'Send':
        INPUT[re.search('CommandId="([^"]*)"', soap).group(1)] += base64.b64decode(text(soap, 'Stream'))
        body = ''
    elif verb == 'Receive':
        command = re.search('CommandId="([^"]*)"', soap).group(1)
        body = ('<rsp:ReceiveResponse>%s%s<rsp:CommandState State="%s/CommandState/Done"><rsp:ExitCode>7</rsp:ExitCode>'
                '</rsp:CommandState></rsp:ReceiveResponse>') % (stream(LINES[command] + b'\n'), stream(INPUT[command]), SHELL)
    else:
        body = ''
    return ('<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" '
            'xmlns:rsp="%s"><s:Header><a:Action>%sResponse</a:Action></s:Header><s:Body>%s</s:Body></s:Envelope>') % (SHELL, action, body)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    context = None
    logins = 0

    def log_message(self, *args):
        pass

    def reply(self, status, kind='', body=b'', challenge=None):
        self.send_response(status)
        if challenge is not None:
            self.send_header('WWW-Authenticate', ('Negotiate ' + base64.b64encode(challenge).decode()).strip())
        if kind:
            self.send_header('Content-Type', kind)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        authorization = self.headers.get('Authorization', '')
        if authorization:
            token = base64.b64decode(authorization.split(' ', 1)[1])
            if self.context is None or self.context.complete:
                self.context = gssapi.SecurityContext(creds=gssapi.Credentials(usage='accept', mechs=MECHS), usage='accept')
            try:
                out = self.context.step(token)
            except gssapi.exceptions.GSSError as e:
                print(e, file=sys.stderr, flush=True)
                self.context = None
                return self.reply(401, challenge=b'')
            if not self.context.complete:
                return self.reply(401, challenge=out)
            print('login', self.context.initiator_name, flush=True)
        if self.context is None or not self.context.complete:
            return self.reply(401, challenge=b'')
        if not body:
            return self.reply(200)
        if TLS:
            return self.reply(200, 'application/soap+xml;charset=UTF-8', answer(body.decode()).encode())
        part = body.split(b'application/octet-stream\r\n', 1)[1][:-len(b'--Encrypted Boundary--\r\n')]
        out = answer(self.context.unwrap(part[4:]).message.decode()).encode()
        sealed = struct.pack('<I', 16) + self.context.wrap(out, True).message
        self.reply(200, SEALED, b'--Encrypted Boundary\r\n\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n'
                   b'\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=%d\r\n'
                   b'--Encrypted Boundary\r\n\tContent-Type: application/octet-stream\r\n' % len(out) + sealed + b'--Encrypted Boundary--\r\n')


server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
if TLS:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
