// OHIF before the node that serves it; whoever has not signed in is sent to the sign-in and comes back.
(() => {
  const signIn = () => location.replace(`/?next=${encodeURIComponent(location.pathname + location.search)}`);
  fetch("/api/v1/me").then((answer) => { if (answer.status === 401) signIn(); });
  window.config = {
    name: "dicom-node",
    routerBasename: "/viewer",
    extensions: [],
    modes: [],
    customizationService: {},
    showStudyList: true,
    showLoadingIndicator: true,
    showWarningMessageForCrossOrigin: false,
    showCPUFallbackMessage: true,
    strictZSpacingForVolumeViewport: true,
    maxNumRequests: { interaction: 50, thumbnail: 5, prefetch: 10 },
    investigationalUseDialog: { option: "never" },
    httpErrorHandler: (error) => { if (error.status === 401) signIn(); },
    defaultDataSourceName: "node",
    dataSources: [
      {
        namespace: "@ohif/extension-default.dataSourcesModule.dicomweb",
        sourceName: "node",
        configuration: {
          friendlyName: "AI node",
          name: "node",
          qidoRoot: "/dicom-web",
          wadoRoot: "/dicom-web",
          wadoUriRoot: "/dicom-web",
          qidoSupportsIncludeField: true,
          supportsReject: false,
          supportsFuzzyMatching: false,
          supportsWildcard: true,
          imageRendering: "wadors",
          thumbnailRendering: "wadors",
          enableStudyLazyLoad: true,
          staticWado: false,
          dicomUploadEnabled: false,
          singlepart: "bulkdata,video,pdf",
          bulkDataURI: { enabled: true },
          omitQuotationForMultipartRequest: true,
        },
      },
    ],
  };
})();
