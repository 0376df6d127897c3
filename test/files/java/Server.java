import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

/** Java's own TLS by the agent's PKCS#12 files: `Server FOLDER PASSWORDFILE`. Prints its port, answers each client that it trusts. */
public class Server {
  public static void main(String[] args) throws Exception {
    Path folder = Path.of(args[0]);
    char[] password = Files.readString(Path.of(args[1])).strip().toCharArray();
    KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
    keys.init(KeyStore.getInstance(folder.resolve("keystore.p12").toFile(), password), password);
    TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
    trust.init(KeyStore.getInstance(folder.resolve("truststore.p12").toFile(), password));
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
    SSLServerSocket server = (SSLServerSocket) context.getServerSocketFactory().createServerSocket(0, 50, java.net.InetAddress.getLoopbackAddress());
    server.setNeedClientAuth(true);
    System.out.println(server.getLocalPort());
    while (true) {
      try (SSLSocket socket = (SSLSocket) server.accept(); OutputStream out = socket.getOutputStream()) {
        socket.setSoTimeout(5000);
        SSLParameters parameters = socket.getSSLParameters();
        parameters.setApplicationProtocols(new String[] {"http/1.1"});
        socket.setSSLParameters(parameters);
        socket.startHandshake();
        socket.getInputStream().read(new byte[4096]);
        out.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".getBytes());
      } catch (Exception refused) {
        System.out.println(refused.getMessage());
      }
    }
  }
}
