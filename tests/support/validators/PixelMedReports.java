import com.pixelmed.validate.DicomSRValidator;
import java.io.BufferedReader;
import java.io.InputStreamReader;

/** Validates the structured report of each line of the input: making the validator takes longer than asking it. */
class PixelMedReports {
    public static void main(String[] none) throws Exception {
        DicomSRValidator validator = new DicomSRValidator();
        BufferedReader paths = new BufferedReader(new InputStreamReader(System.in));
        for (String path = paths.readLine(); path != null; path = paths.readLine()) {
            System.out.println(validator.validate(path, false, true, false, false, false));
            System.out.println("== end of " + path);
            System.out.flush();
        }
    }
}
