// One role on one DICOM service, which may be in another resource group than the storage.
param dicomWorkspace string
param dicomService string
param principalId string

// DICOM Data Reader
var readerRole = 'e89c7a3c-2f64-4fa1-a847-3e4c9ba4283a'

resource workspace 'Microsoft.HealthcareApis/workspaces@2023-11-01' existing = {
  name: dicomWorkspace

  resource service 'dicomservices' existing = {
    name: dicomService
  }
}

resource reader 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(workspace::service.id, principalId, readerRole)
  scope: workspace::service
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', readerRole)
  }
}

output url string = workspace::service.properties.serviceUrl
